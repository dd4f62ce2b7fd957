/* The load generator: one thread, one epoll, requests encoded beforehand, answers read only as far as needed to see
 * where each response ends, whether it was asked for, and how many there were.  bench/generator.py compiles and runs
 * it; what it is told is there too.  Linux only: it takes its source addresses from all of 127.0.0.0/8.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define PORTS 50000 /* of each source address: 10240 to 60239 */
#define BUFFER (4 << 20)
#define TAIL_LIMIT (1 << 20)
#define RETRY (SECOND / 10) /* after a failure, so that a dead server is not hammered */

enum state { CLOSED, ASSOCIATING, READY, THINKING, QUERYING, RELEASING };
enum failure { REFUSED, REJECTED, ABORTED, WRONG, TIMEOUT, FAILURES };
enum moment { ASSOCIATED, ANSWERED, RELEASED, LATE, MOMENTS };

struct bytes { uint32_t length; uint8_t *data; };
struct request { struct bytes pdus; uint32_t id_offset, hits, associate; };
struct slot {
    int fd, number;
    uint32_t serial; /* of its connection */
    enum state state;
    uint32_t request, caller, hits, tail_length, tail_size;
    uint16_t message_id;
    bool connected;
    int64_t intended, begun;
    uint8_t *tail;
};
struct arrival { int64_t when; uint32_t who; };
struct queue { struct arrival *items; size_t first, count, size; };

/* What is to be done, by the names of the command line. */
static struct {
    double seconds, warmup, rate, period, jitter, think, hold, timeout, drain;
    double slots, port, process, modalities, addresses, per_association, ramp, first_port;
} set = { .seconds = 5, .warmup = 0.5, .timeout = 30, .drain = 10, .slots = 100, .addresses = 64, .ramp = 100 };

static struct bytes *associates;
static struct request *requests;
static uint32_t associate_count, request_count;
static struct slot *slots;
static uint32_t slot_count, *free_slots, free_count;
static struct queue backlog, thinking, retries;
static struct arrival *polls; /* a heap by time: the next poll of each modality */
static int epoll_fd, timer_fd;
static int64_t now, begin, window, end;
static uint8_t *buffer;
static uint64_t done, total, responses, received_bytes, failures[FAILURES], histogram[MOMENTS][64 * 128], connections;
static uint64_t random_state = 88172645463325252ULL;
static uint32_t open_slots, ready_count, most_waiting;
static bool filling; /* associations are opened beforehand, nothing is measured yet */

static const uint8_t RELEASE_RQ[10] = {5, 0, 0, 0, 0, 4};

static int64_t clock_now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * SECOND + at.tv_nsec;
}

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static int64_t thinking_time(void) { return set.think * SECOND; }
static double uniform(void) { return (next_random() >> 11) / 9007199254740992.0; }
static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
static uint16_t le16(const uint8_t *p) { return p[0] | p[1] << 8; }
static uint32_t le32(const uint8_t *p) { return le16(p) | (uint32_t)le16(p + 2) << 16; }

/* Count a time in a histogram of 128 steps to a power of two, so to less than a hundredth. */
static void record(enum moment what, int64_t from)
{
    int64_t counted = set.rate || set.modalities ? from : now; /* an open loop counts by when it was to begin */
    if (counted < window || counted > end)
        return;
    uint64_t value = now > from ? now - from : 0;
    int power = value < 128 ? 6 : 63 - __builtin_clzll(value);
    histogram[what][(power - 6) * 128 + (value < 128 ? value : (value >> (power - 7)) & 127)]++;
}

static void put(struct queue *queue, int64_t when, uint32_t who)
{
    if (queue->count == queue->size) {
        size_t size = queue->size ? queue->size * 2 : 1024;
        struct arrival *items = malloc(size * sizeof *items);
        for (size_t n = 0; n < queue->count; n++)
            items[n] = queue->items[(queue->first + n) % queue->size];
        free(queue->items);
        *queue = (struct queue){items, 0, queue->count, size};
    }
    queue->items[(queue->first + queue->count++) % queue->size] = (struct arrival){when, who};
}

static struct arrival take(struct queue *queue)
{
    struct arrival item = queue->items[queue->first];
    queue->first = (queue->first + 1) % queue->size;
    queue->count--;
    return item;
}

static int64_t due(const struct queue *queue) { return queue->count ? queue->items[queue->first].when : INT64_MAX; }

/* --- one association ------------------------------------------------------------------------------------------ */

static void start(struct slot *slot, uint32_t who, int64_t intended);

static void finished(struct slot *slot, bool failed)
{
    /* The slot is free: CLOSED, or READY with its association open. */
    if (filling || set.hold)
        return;
    if (set.rate || set.modalities)
        free_slots[free_count++] = slot->number;
    else if (failed)
        put(&retries, now + RETRY, slot->number);
    else
        start(slot, next_random() % request_count, now);
}

static void close_slot(struct slot *slot)
{
    close(slot->fd);
    slot->fd = -1;
    slot->state = CLOSED;
    slot->tail_length = 0;
    slot->serial++;
    open_slots--;
}

static void fail(struct slot *slot, enum failure why)
{
    if (filling || now >= window)
        failures[why]++;
    close_slot(slot);
    finished(slot, true);
}

static void send_all(struct slot *slot, const void *data, size_t length)
{
    if (send(slot->fd, data, length, MSG_NOSIGNAL) != (ssize_t)length)
        fail(slot, ABORTED);
}

static void send_query(struct slot *slot)
{
    struct request *request = &requests[slot->request];
    slot->state = QUERYING;
    slot->hits = 0;
    slot->message_id++;
    request->pdus.data[request->id_offset] = slot->message_id;
    request->pdus.data[request->id_offset + 1] = slot->message_id >> 8;
    send_all(slot, request->pdus.data, request->pdus.length);
}

static void send_associate(struct slot *slot)
{
    const struct bytes *rq = &associates[slot->caller % associate_count];
    ssize_t sent = send(slot->fd, rq->data, rq->length, MSG_NOSIGNAL);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = slot};
    if (sent == (ssize_t)rq->length) {
        if (!slot->connected)
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, slot->fd, &event);
        else
            epoll_ctl(epoll_fd, EPOLL_CTL_MOD, slot->fd, &event);
        slot->connected = true;
    } else if (sent < 0 && errno == EAGAIN && !slot->connected) { /* the handshake is not over */
        event.events = EPOLLOUT;
        slot->connected = true;
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, slot->fd, &event);
    } else
        fail(slot, REFUSED);
}

static void open_connection(struct slot *slot, uint32_t source)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(set.port)}, from = to;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    slot->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    slot->state = ASSOCIATING;
    slot->connected = false;
    slot->begun = now;
    open_slots++;
    setsockopt(slot->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(slot->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* 127.64.0.1 and on, 65536 addresses to a process; each is used with one port after the other. */
    from.sin_addr.s_addr = htonl(0x7F400001u + ((uint32_t)set.process << 16) + source);
    for (int attempt = 0; attempt < 100; attempt++) {
        uint64_t port = (uint64_t)set.first_port + connections++ / (set.modalities ? 1 : (uint64_t)set.addresses);
        from.sin_port = htons(10240 + port % PORTS);
        if (bind(slot->fd, (struct sockaddr *)&from, sizeof from) < 0)
            continue;
        if (connect(slot->fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS) {
            send_associate(slot);
            return;
        }
        break;
    }
    fail(slot, REFUSED);
}

/* Begin with what was to begin at `intended`; `who` is a request, or a modality in a storm. */
static void start(struct slot *slot, uint32_t who, int64_t intended)
{
    slot->request = who % request_count;
    slot->intended = intended;
    record(LATE, intended);
    if (slot->state == READY) {
        slot->begun = now;
        send_query(slot);
    } else {
        slot->caller = set.modalities ? who : set.per_association ? requests[slot->request].associate : slot->caller;
        open_connection(slot, set.modalities ? who % 65535 : connections % (uint64_t)set.addresses);
    }
}

static void established(struct slot *slot)
{
    if (filling) {
        slot->state = READY;
        ready_count++;
        return;
    }
    record(ASSOCIATED, slot->intended);
    if (set.think) {
        slot->state = THINKING;
        put(&thinking, now + thinking_time(), slot->number);
    } else
        send_query(slot);
}

static void count_done(void)
{
    total++;
    if (now >= window && now <= end)
        done++;
}

static void answered(struct slot *slot, uint16_t status)
{
    if (slot->hits != requests[slot->request].hits || status != 0) {
        fail(slot, WRONG);
        return;
    }
    record(ANSWERED, slot->intended + thinking_time());
    if (now >= window && now <= end)
        responses += slot->hits;
    if (set.per_association) {
        slot->state = RELEASING;
        send_all(slot, RELEASE_RQ, sizeof RELEASE_RQ);
    } else {
        count_done();
        slot->state = READY;
        finished(slot, false);
    }
}

static void released(struct slot *slot)
{
    record(RELEASED, slot->intended + thinking_time());
    count_done();
    close_slot(slot);
    finished(slot, false);
}

/* --- what comes back ------------------------------------------------------------------------------------------ */

/* Read a command set as far as needed; false: it is none, or not the answer to what was asked. */
static bool receive_command(struct slot *slot, const uint8_t *p, uint32_t length)
{
    uint16_t status = 0xFFFF, data_set = 0, answered_id = 0;
    for (uint32_t pos = 0; pos + 8 <= length;) {
        uint32_t size = le32(p + pos + 4);
        if (size > length - pos - 8)
            return false;
        if (size == 2)
            switch (le16(p + pos + 2)) {
            case 0x0120: answered_id = le16(p + pos + 8); break;
            case 0x0800: data_set = le16(p + pos + 8); break;
            case 0x0900: status = le16(p + pos + 8); break;
            }
        pos += 8 + size;
    }
    if (slot->state != QUERYING || answered_id != slot->message_id)
        return false;
    if (data_set == 0x0101)
        answered(slot, status);
    return true;
}

static bool receive_p_data(struct slot *slot, const uint8_t *p, uint32_t length)
{
    for (uint32_t pos = 0; pos + 6 <= length;) {
        uint32_t size = be32(p + pos);
        uint8_t control = p[pos + 5];
        if (size < 2 || size > length - pos - 4)
            return false;
        if (control == 3) {
            if (!receive_command(slot, p + pos + 6, size - 2))
                return false;
        } else if (control == 2)
            slot->hits++;
        else if (control != 0)
            return false;
        pos += 4 + size;
    }
    return true;
}

/* Act on one PDU; false: not what was expected now. */
static bool receive_pdu(struct slot *slot, const uint8_t *p, uint32_t length)
{
    switch (p[0]) {
    case 2:
        if (slot->state != ASSOCIATING)
            return false;
        for (uint32_t pos = 74; pos + 4 <= length; pos += 4 + (p[pos + 2] << 8 | p[pos + 3]))
            if (p[pos] == 0x21 && p[pos + 6] != 0)
                return false; /* a context is refused */
        established(slot);
        return true;
    case 4: return receive_p_data(slot, p + 6, length - 6);
    case 6:
        if (slot->state != RELEASING)
            return false;
        released(slot);
        return true;
    default: return false;
    }
}

static void receive(struct slot *slot)
{
    uint32_t serial = slot->serial;
    memcpy(buffer, slot->tail, slot->tail_length);
    ssize_t got = recv(slot->fd, buffer + slot->tail_length, BUFFER - TAIL_LIMIT, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        fail(slot, slot->state == ASSOCIATING ? REFUSED : ABORTED);
        return;
    }
    received_bytes += now >= window && now <= end ? got : 0;
    uint32_t length = slot->tail_length + got, pos = 0;
    slot->tail_length = 0;
    while (length - pos >= 6) {
        uint32_t size = 6 + be32(buffer + pos + 2);
        if (size < 10 || size > TAIL_LIMIT) {
            fail(slot, ABORTED);
            return;
        }
        if (size > length - pos)
            break;
        if (!receive_pdu(slot, buffer + pos, size)) {
            if (slot->serial == serial)
                fail(slot, buffer[pos] == 3 ? REJECTED : ABORTED);
            return;
        }
        if (slot->serial != serial)
            return;
        pos += size;
    }
    uint32_t left = length - pos;
    if (left > slot->tail_size)
        slot->tail = realloc(slot->tail, slot->tail_size = left > 16384 ? TAIL_LIMIT : 16384);
    memcpy(slot->tail, buffer + pos, left);
    slot->tail_length = left;
}

/* --- when ----------------------------------------------------------------------------------------------------- */

static int64_t next_arrival;

static void sift_down(uint32_t count)
{
    for (uint32_t at = 0, child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && polls[child + 1].when < polls[child].when;
        if (polls[at].when <= polls[child].when)
            break;
        struct arrival item = polls[at];
        polls[at] = polls[child];
        polls[child] = item;
    }
}

static int compare(const void *a, const void *b)
{
    int64_t one = ((const struct arrival *)a)->when, other = ((const struct arrival *)b)->when;
    return (one > other) - (one < other);
}

/* Put what was to begin by now into the backlog, with the time at which it was to begin. */
static void arrive(void)
{
    if (filling || set.hold)
        return;
    while (set.rate && next_arrival <= now && next_arrival < end) {
        put(&backlog, next_arrival, next_random() % request_count);
        next_arrival += -__builtin_log(1 - uniform()) / set.rate * SECOND; /* as independent clients do */
    }
    while (set.modalities && polls[0].when <= now && polls[0].when < end) {
        put(&backlog, polls[0].when, polls[0].who);
        polls[0].when += set.period * (1 + set.jitter * (2 * uniform() - 1)) * SECOND;
        sift_down(set.modalities);
    }
    while (backlog.count && free_count) {
        struct arrival item = take(&backlog);
        start(&slots[free_slots[--free_count]], item.who, item.when);
    }
    if (backlog.count > most_waiting)
        most_waiting = backlog.count;
}

static void run_timers(void)
{
    while (due(&thinking) <= now) {
        struct slot *slot = &slots[take(&thinking).who];
        if (slot->state == THINKING)
            send_query(slot);
    }
    while (due(&retries) <= now) {
        struct slot *slot = &slots[take(&retries).who];
        start(slot, next_random() % request_count, now);
    }
    static int64_t checked;
    if (now - checked < SECOND)
        return;
    checked = now;
    for (uint32_t n = 0; n < slot_count; n++)
        if (slots[n].state != CLOSED && slots[n].state != READY && now - slots[n].begun > set.timeout * SECOND)
            fail(&slots[n], TIMEOUT);
}

static uint64_t failed_count(void)
{
    uint64_t failed = 0;
    for (int why = 0; why < FAILURES; why++)
        failed += failures[why];
    return failed;
}

static void progress(void)
{
    static int64_t shown;
    if (now - shown < SECOND / 4)
        return;
    shown = now;
    printf("progress %.3f %lu %lu %u\n", (now - begin) / 1e9, done, failed_count(), open_slots);
    fflush(stdout);
}

static void turn(int64_t until)
{
    struct epoll_event events[256];
    int64_t wake = until < now + SECOND / 4 ? until : now + SECOND / 4;
    int64_t times[] = {due(&thinking), due(&retries), set.rate && next_arrival < end ? next_arrival : INT64_MAX,
                       set.modalities && polls[0].when < end ? polls[0].when : INT64_MAX};
    for (size_t n = 0; n < sizeof times / sizeof *times; n++)
        wake = times[n] < wake ? times[n] : wake;
    int timeout = 0;
    if (wake > now) {
        static int64_t armed;
        if (armed != wake) {
            struct itimerspec at = {.it_value = {wake / SECOND, wake % SECOND}};
            timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
            armed = wake;
        }
        timeout = -1;
    }
    int count = epoll_wait(epoll_fd, events, 256, timeout);
    now = clock_now();
    for (int n = 0; n < count; n++) {
        struct slot *slot = events[n].data.ptr;
        if (slot == NULL) {
            uint64_t ticks;
            if (read(timer_fd, &ticks, sizeof ticks) < 0)
                continue;
        } else if (slot->fd >= 0) {
            if (slot->state == ASSOCIATING && events[n].events & EPOLLOUT)
                send_associate(slot);
            else
                receive(slot);
        }
        if (n % 16 == 15)
            now = clock_now();
    }
    now = clock_now();
    run_timers();
    arrive();
    progress();
}

static uint32_t count_in(enum state state)
{
    uint32_t count = 0;
    for (uint32_t n = 0; n < slot_count; n++)
        count += slots[n].state == state;
    return count;
}

static void say(const char *what, uint32_t count)
{
    printf("%s %u %.3f\n", what, count, (clock_now() - begin) / 1e9);
    fflush(stdout);
}

/* Open associations, a bounded number at a time. */
static void open_all(void)
{
    uint32_t opened = 0;
    int64_t until = now + (int64_t)(set.timeout * SECOND) * 2;
    window = end = INT64_MAX;
    filling = true;
    while (ready_count + failed_count() < slot_count && now < until) {
        for (; opened < slot_count && opened - ready_count - failed_count() < set.ramp; opened++)
            open_connection(&slots[opened], connections % (uint64_t)set.addresses);
        turn(now + SECOND / 10);
    }
    filling = false;
    say("opened", ready_count);
}

static void hold(void)
{
    open_all();
    for (int64_t until = now + (int64_t)(set.hold * SECOND); now < until;)
        turn(until);
    window = begin = now;
    end = now + (int64_t)(set.timeout * SECOND);
    for (uint32_t n = 0; n < slot_count; n++)
        if (slots[n].state == READY)
            start(&slots[n], n, now);
    while (count_in(QUERYING) && now < end)
        turn(end);
    end = now;
    say("answered", done);
}

static void measure(void)
{
    if (!set.per_association)
        open_all();
    memset(failures, 0, sizeof failures);
    begin = next_arrival = now = clock_now();
    window = begin + (int64_t)(set.warmup * SECOND);
    end = window + (int64_t)(set.seconds * SECOND);
    for (uint32_t n = 0; n < set.modalities; n++)
        polls[n] = (struct arrival){begin + (int64_t)(set.period * uniform() * SECOND), n};
    qsort(polls, set.modalities, sizeof *polls, compare);
    free_count = 0;
    for (uint32_t n = slot_count; n-- > 0;)
        if (set.rate || set.modalities)
            free_slots[free_count++] = n;
        else
            start(&slots[n], next_random() % request_count, now);
    while (now < end)
        turn(end);
    if (!set.rate && !set.modalities)
        return;
    int64_t until = end + (int64_t)(set.drain * SECOND);
    while ((backlog.count || count_in(QUERYING) + count_in(ASSOCIATING) + count_in(THINKING)) && now < until)
        turn(until);
    for (uint32_t n = 0; n < slot_count; n++) /* what never came took at least so long */
        if (slots[n].state == ASSOCIATING || slots[n].state == QUERYING)
            fail(&slots[n], TIMEOUT), record(ANSWERED, slots[n].intended);
    failures[TIMEOUT] += backlog.count;
    while (backlog.count)
        record(ANSWERED, take(&backlog).when);
}

static void print_result(const struct rusage *before)
{
    static const char *names[] = {"refused", "rejected", "aborted", "wrong", "timeout"};
    static const char *moments[] = {"associated", "answered", "released", "late"};
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (usage.ru_utime.tv_sec - before->ru_utime.tv_sec) + (usage.ru_stime.tv_sec - before->ru_stime.tv_sec) +
                 (usage.ru_utime.tv_usec - before->ru_utime.tv_usec + usage.ru_stime.tv_usec - before->ru_stime.tv_usec) / 1e6;
    printf("result {\"done\": %lu, \"total\": %lu, \"responses\": %lu, \"bytes\": %lu, \"seconds\": %.6f, \"cpu\": %.6f, "
           "\"elapsed\": %.6f, \"most_waiting\": %u, \"failures\": {",
           done, total, responses, received_bytes, (end - window) / 1e9, cpu, (now - begin) / 1e9, most_waiting);
    for (int why = 0; why < FAILURES; why++)
        printf("%s\"%s\": %lu", why ? ", " : "", names[why], failures[why]);
    printf("}, \"histograms\": {");
    for (int what = 0; what < MOMENTS; what++) {
        bool first = true;
        printf("%s\"%s\": [", what ? ", " : "", moments[what]);
        for (int n = 0; n < 58 * 128; n++)
            if (histogram[what][n]) {
                int power = n / 128 + 6;
                uint64_t low = power == 6 ? (uint64_t)n : (128ULL + n % 128) << (power - 7);
                printf("%s[%lu, %lu]", first ? "" : ", ", low, histogram[what][n]);
                first = false;
            }
        printf("]");
    }
    printf("}}\n");
}

/* --- what is to be sent --------------------------------------------------------------------------------------- */

static uint32_t read_u32(FILE *file)
{
    uint8_t raw[4];
    if (fread(raw, 4, 1, file) != 1) {
        fprintf(stderr, "the plan is cut short\n");
        exit(2);
    }
    return le32(raw);
}

static struct bytes read_bytes(FILE *file)
{
    uint32_t length = read_u32(file);
    struct bytes all = {length, malloc(length)};
    if (fread(all.data, 1, length, file) != length)
        exit(2);
    return all;
}

static void read_plan(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    associates = malloc((associate_count = read_u32(file)) * sizeof *associates);
    for (uint32_t n = 0; n < associate_count; n++)
        associates[n] = read_bytes(file);
    requests = malloc((request_count = read_u32(file)) * sizeof *requests);
    for (uint32_t n = 0; n < request_count; n++) {
        uint32_t id_offset = read_u32(file), hits = read_u32(file), associate = read_u32(file);
        requests[n] = (struct request){read_bytes(file), id_offset, hits, associate};
    }
    fclose(file);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; double *value; } names[] = {
        {"seconds", &set.seconds}, {"warmup", &set.warmup}, {"rate", &set.rate}, {"period", &set.period},
        {"jitter", &set.jitter}, {"think", &set.think}, {"hold", &set.hold}, {"timeout", &set.timeout},
        {"drain", &set.drain}, {"slots", &set.slots}, {"port", &set.port}, {"process", &set.process},
        {"modalities", &set.modalities}, {"addresses", &set.addresses}, {"per_association", &set.per_association},
        {"ramp", &set.ramp}, {"first_port", &set.first_port},
    };
    if (argc < 2)
        return 2;
    read_plan(argv[1]);
    for (int n = 2; n < argc; n++)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            size_t length = strlen(names[k].name);
            if (!strncmp(argv[n], names[k].name, length) && argv[n][length] == '=')
                *names[k].value = atof(argv[n] + length + 1);
        }
    random_state += (uint64_t)set.first_port * 2654435761u + (uint64_t)set.process * 97;
    slot_count = set.slots;
    slots = calloc(slot_count, sizeof *slots);
    free_slots = calloc(slot_count + 1, sizeof *free_slots);
    polls = calloc((size_t)set.modalities + 1, sizeof *polls);
    buffer = malloc(BUFFER);
    epoll_fd = epoll_create1(0);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event);
    for (uint32_t n = 0; n < slot_count; n++)
        slots[n].fd = -1, slots[n].number = slots[n].caller = n;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    struct rusage before;
    getrusage(RUSAGE_SELF, &before);
    begin = now = clock_now();
    if (set.hold)
        hold();
    else
        measure();
    print_result(&before);
    return 0;
}
