"""The HL7 v2 feed: messages become changes of the worklist."""
