/*
 * One process appends to a queue, another one reads it and sleeps while there is nothing.
 *
 *     cargo build -p chronicle-capi
 *     cc -Icapi/include capi/examples/queue.c target/debug/libchronicle_capi.a -lpthread -ldl -lm -o queue
 *     ./queue DIRECTORY
 *
 * `bash ci/examples capi` does that, against the shared library too. Exit code 0: everything came, once and in order.
 */
#include "chronicle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 1000 };
static const uint64_t second = 1000000000;

/* What must not happen here: says where and why, and ends the process. */
static void expect(chronicle_status wanted, chronicle_status found, const char *what) {
    if (found == wanted) return;
    fprintf(stderr, "queue: %s: %s: %s\n", what, chronicle_status_name(found), found < 0 ? chronicle_last_error() : "");
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * second + (uint64_t)now.tv_nsec;
}

static int write_frames(const char *path) {
    chronicle_publisher_options options = {
        .size = sizeof options,
        .profile = CHRONICLE_PROFILE_ORDERS,
    };
    chronicle_publisher *publisher;
    expect(CHRONICLE_STATUS_OK, chronicle_publisher_open(path, &options, &publisher), "open for writing");

    chronicle_publisher *second_one;
    expect(CHRONICLE_STATUS_LOCKED, chronicle_publisher_open(path, &options, &second_one), "open a second time");

    for (uint64_t n = 1; n <= FRAMES; n++) {
        /* Now and then a pause that is long enough for the reader to sleep. */
        if (n % 250 == 0) usleep(20000);
        uint64_t seq;
        expect(CHRONICLE_STATUS_OK,
               chronicle_publisher_append_wait(publisher, now_ns(), 7, 0, (const uint8_t *)&n, sizeof n, second, &seq),
               "append");
        if (seq != n) return 1;
    }
    uint64_t durable;
    expect(CHRONICLE_STATUS_OK, chronicle_publisher_sync(publisher, &durable), "sync");
    if (durable != FRAMES) return 1;
    expect(CHRONICLE_STATUS_OK, chronicle_publisher_close(publisher), "close");
    return 0;
}

static chronicle_subscriber *open_when_there(const char *path) {
    for (int tries = 0;; tries++) {
        chronicle_subscriber *subscriber;
        chronicle_status status = chronicle_subscriber_open(path, "example", CHRONICLE_START_CURSOR, &subscriber);
        if (status != CHRONICLE_STATUS_NOT_FOUND || tries == 1000) {
            expect(CHRONICLE_STATUS_OK, status, "open for reading");
            return subscriber;
        }
        usleep(5000);
    }
}

static void read_frames(chronicle_subscriber *subscriber) {
    uint64_t sleeps = 0;
    for (uint64_t wanted = 1; wanted <= FRAMES;) {
        chronicle_frame frame;
        chronicle_status status = chronicle_subscriber_read(subscriber, &frame);
        if (status == CHRONICLE_STATUS_EMPTY) {
            status = chronicle_subscriber_wait(subscriber, 10 * second);
            expect(CHRONICLE_STATUS_OK, status, "wait");
            sleeps++;
            continue;
        }
        expect(CHRONICLE_STATUS_OK, status, "read");
        uint64_t found = 0;
        if (frame.payload_len == sizeof found) memcpy(&found, frame.payload, sizeof found);
        if (frame.seq != wanted || found != wanted || frame.type_id != 7) {
            fprintf(stderr, "queue: frame %" PRIu64 " is not frame %" PRIu64 "\n", frame.seq, wanted);
            exit(1);
        }
        wanted++;
    }
    expect(CHRONICLE_STATUS_OK, chronicle_subscriber_commit(subscriber), "commit");
    printf("%d frames, %" PRIu64 " waits\n", FRAMES, sleeps);
}

/* What a program does wrong is said to it, and nothing else happens. */
static void make_mistakes(const char *path) {
    chronicle_subscriber *subscriber = (chronicle_subscriber *)&subscriber;
    expect(CHRONICLE_STATUS_INVALID, chronicle_subscriber_open(NULL, NULL, 0, &subscriber), "no path");
    if (subscriber != NULL || strcmp(chronicle_last_error(), "path is NULL") != 0) exit(1);
    expect(CHRONICLE_STATUS_INVALID, chronicle_subscriber_open("\xff", NULL, 0, &subscriber), "a path of no letters");
    expect(CHRONICLE_STATUS_INVALID, chronicle_subscriber_open(path, NULL, 99, &subscriber), "a start of no kind");
    expect(CHRONICLE_STATUS_INVALID, chronicle_subscriber_open(path, "../up", 0, &subscriber), "a name that is a path");
    expect(CHRONICLE_STATUS_INVALID, chronicle_subscriber_open(path, NULL, 0, NULL), "no place");
    expect(CHRONICLE_STATUS_INVALID, chronicle_subscriber_wait(NULL, 0), "no handle");
    expect(CHRONICLE_STATUS_INVALID, chronicle_publisher_append(NULL, 0, 0, 0, NULL, 0, NULL), "no handle");

    chronicle_publisher *publisher;
    chronicle_publisher_options options = {.size = 1};
    expect(CHRONICLE_STATUS_INVALID, chronicle_publisher_open(path, &options, &publisher), "options of another time");
    options = (chronicle_publisher_options){.size = sizeof options, .profile = CHRONICLE_PROFILE_ORDERS};
    expect(CHRONICLE_STATUS_OK, chronicle_publisher_open(path, &options, &publisher), "open again");
    expect(CHRONICLE_STATUS_INVALID, chronicle_publisher_append(publisher, 0, 0, 0, NULL, 8, NULL), "bytes nowhere");
    uint8_t *large = calloc(1, 1 << 20);
    expect(CHRONICLE_STATUS_TOO_LARGE, chronicle_publisher_append(publisher, 0, 0, 0, large, 1 << 20, NULL), "1 MiB");
    expect(CHRONICLE_STATUS_OK, chronicle_publisher_append(publisher, 0, 0, 0, NULL, 0, NULL), "no bytes");
    expect(CHRONICLE_STATUS_OK, chronicle_publisher_close(publisher), "close again");
    free(large);

    chronicle_frame frame;
    expect(CHRONICLE_STATUS_OK, chronicle_subscriber_open(path, "example", CHRONICLE_START_CURSOR, &subscriber),
           "come back");
    expect(CHRONICLE_STATUS_INVALID, chronicle_subscriber_read(subscriber, NULL), "no frame");
    expect(CHRONICLE_STATUS_OK, chronicle_subscriber_read(subscriber, &frame), "go on at the cursor");
    if (frame.seq != FRAMES + 1 || frame.payload == NULL || frame.payload_len != 0) exit(1);
    expect(CHRONICLE_STATUS_CLOSED, chronicle_subscriber_wait(subscriber, 5 * second), "a writer that is gone");
    expect(CHRONICLE_STATUS_OK, chronicle_subscriber_close(subscriber), "close");
    expect(CHRONICLE_STATUS_OK, chronicle_subscriber_close(NULL), "close nothing");
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: queue DIRECTORY (that is not there yet)\n");
        return 2;
    }
    if (chronicle_abi_version() != CHRONICLE_ABI_VERSION) {
        fprintf(stderr, "queue: header %d, library %" PRIu32 "\n", CHRONICLE_ABI_VERSION, chronicle_abi_version());
        return 1;
    }
    /* Before any handle is opened: none of them works in a forked child. */
    pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) return write_frames(arguments[1]);

    chronicle_subscriber *subscriber = open_when_there(arguments[1]);
    read_frames(subscriber);
    expect(CHRONICLE_STATUS_OK, chronicle_subscriber_close(subscriber), "close");
    int status;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "queue: the writer failed\n");
        return 1;
    }
    make_mistakes(arguments[1]);
    puts("mistakes are told");
    return 0;
}
