"""A DICOM upper layer on asyncio."""
