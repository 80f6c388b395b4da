/*
 * Chronicle's queues for C. Generated from capi/src by `bash ci/header`: change it there.
 *
 * A queue is a directory: one writer appends frames, any number of readers, in any process, get each of them whole.
 *
 *     errors     A function says what happened by a chronicle_status: 0 or above is ordinary life, below 0 it did
 *                not, and chronicle_last_error() says what, where and why. A status of a newer release may be any number.
 *     ownership  *_open makes a handle, *_close ends it whatever it returns. Strings and options are yours and only read
 *                during the call. What a call lends you says how long.
 *     threads    A handle may move from thread to thread; one thread uses it at a time. Different handles are
 *                independent. No handle works in a forked child.
 *     mistakes   NULL where it is not allowed, a string that is not UTF-8 or an impossible number is
 *                CHRONICLE_STATUS_INVALID. A pointer that is neither NULL nor what the function asks for cannot be told.
 *     bugs       No panic crosses this interface: it becomes CHRONICLE_STATUS_BUG, and the handle takes nothing more.
 */


#ifndef CHRONICLE_H
#define CHRONICLE_H

#include <stddef.h>
#include <stdint.h>

/*
 Raised when a function or a struct of this interface changes its meaning: compare it with chronicle_abi_version().
 */
#define CHRONICLE_ABI_VERSION 1

/*
 All messages of a venue: 64 MiB segments, 1 GiB in all.
 */
#define CHRONICLE_PROFILE_RAW 0

/*
 One refined stream of many: 1 MiB segments, 64 MiB in all.
 */
#define CHRONICLE_PROFILE_CLEAN 1

/*
 Orders of one strategy, of thousands: 256 KiB segments, 4 MiB in all.
 */
#define CHRONICLE_PROFILE_ORDERS 2

/*
 Where the reader's cursor says; at the oldest frame if it has none.
 */
#define CHRONICLE_START_CURSOR 0

/*
 At the oldest frame.
 */
#define CHRONICLE_START_EARLIEST 1

/*
 Behind the newest frame.
 */
#define CHRONICLE_START_LATEST 2

/*
 How a call went. 0 and above: it did what it does. Below 0: see chronicle_last_error().
 */
enum chronicle_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   Done.
   */
  CHRONICLE_STATUS_OK = 0,
  /*
   There is nothing to read now.
   */
  CHRONICLE_STATUS_EMPTY = 1,
  /*
   The time is over.
   */
  CHRONICLE_STATUS_TIMED_OUT = 2,
  /*
   The writer closed the queue in order. Waiting again waits for the next one.
   */
  CHRONICLE_STATUS_CLOSED = 3,
  /*
   The writer died. Waiting again waits for the next one.
   */
  CHRONICLE_STATUS_DIED = 4,
  /*
   The writer is there and has done nothing for seconds.
   */
  CHRONICLE_STATUS_STALE = 5,
  /*
   An argument cannot be: NULL, not UTF-8, a number that stands for nothing.
   */
  CHRONICLE_STATUS_INVALID = -1,
  /*
   The next segment is not ready, for now: try again, or use chronicle_publisher_append_wait().
   */
  CHRONICLE_STATUS_NOT_READY = -2,
  /*
   The queue's budget is used up, and readers still need all of it.
   */
  CHRONICLE_STATUS_FULL = -3,
  /*
   No segment takes such a payload.
   */
  CHRONICLE_STATUS_TOO_LARGE = -4,
  /*
   A sync failed: close the queue and open it again; what memory holds is saved first.
   */
  CHRONICLE_STATUS_POISONED = -5,
  /*
   Another process or handle has it.
   */
  CHRONICLE_STATUS_LOCKED = -6,
  /*
   A crash of the machine took frames. Told once; reading goes on behind it.
   */
  CHRONICLE_STATUS_LOST = -7,
  /*
   The reader was too slow: frames that it had not read are gone. Told once; reading goes on behind it.
   */
  CHRONICLE_STATUS_LAPPED = -8,
  /*
   The cursor was another queue's that stood here before. Told once; reading goes on where a new reader starts.
   */
  CHRONICLE_STATUS_RESET = -9,
  /*
   Ordinary life of another kind: the message says which.
   */
  CHRONICLE_STATUS_REFUSED = -10,
  /*
   Bytes that no writer of ours could have made.
   */
  CHRONICLE_STATUS_DAMAGE = -11,
  /*
   The operating system said no.
   */
  CHRONICLE_STATUS_TROUBLE = -12,
  /*
   There is no such queue.
   */
  CHRONICLE_STATUS_NOT_FOUND = -13,
  /*
   A bug of ours: please report the message. The handle takes nothing more; close it.
   */
  CHRONICLE_STATUS_BUG = -14,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum chronicle_status chronicle_status;
#else
typedef int32_t chronicle_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 The writing end of a queue.
 */
typedef struct chronicle_publisher chronicle_publisher;

/*
 A reading end of a queue.
 */
typedef struct chronicle_subscriber chronicle_subscriber;

/*
 How a writer keeps its queue. Set it to zeros, then `size`, then what should be otherwise.
 */
typedef struct chronicle_publisher_options {
  /*
   sizeof(chronicle_publisher_options): which fields the program knows.
   */
  size_t size;
  /*
   One of CHRONICLE_PROFILE_*.
   */
  uint32_t profile;
  /*
   Length of segments, a multiple of 32 from 512 bytes to 1 GiB; 0 = the profile's.
   */
  uint32_t segment_len;
  /*
   Bytes that all segments together may take, at least three of them; 0 = the profile's.
   */
  uint64_t max_bytes;
} chronicle_publisher_options;

/*
 One frame.
 */
typedef struct chronicle_frame {
  /*
   Its number in the stream, from 1.
   */
  uint64_t seq;
  /*
   What its writer passed: ns since 1970.
   */
  uint64_t time_ns;
  /*
   What the payload is, by the program's own word.
   */
  uint16_t type_id;
  /*
   Bits that the program defines.
   */
  uint16_t flags;
  /*
   Its bytes: the subscriber's, valid until its next call. Aligned to nothing; never NULL.
   */
  const uint8_t *payload;
  /*
   Length of the payload in bytes.
   */
  size_t payload_len;
} chronicle_frame;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 The CHRONICLE_ABI_VERSION that the library was built with; the header's is the one that the program was built with.
 */
uint32_t chronicle_abi_version(void);

/*
 Opens the queue at `path` for writing; makes it where there is none, and recovers it after a crash.

 `options` may be NULL: CHRONICLE_PROFILE_RAW. On success `*publisher` is a handle to be ended with
 chronicle_publisher_close(), otherwise NULL. CHRONICLE_STATUS_LOCKED: there is a writer already.

 # Safety

 `path` is NULL or a string; `options` is NULL or points to options; `publisher` is NULL or a place for a pointer.
 */
chronicle_status chronicle_publisher_open(const char *path,
                                          const struct chronicle_publisher_options *options,
                                          struct chronicle_publisher **publisher);

/*
 Appends one frame; readers in any process see it at once. Makes no system call unless a reader sleeps.

 `time_ns` is ns since 1970, `type_id` and `flags` are the program's own. `payload` may be NULL where `payload_len` is 0.
 `*seq` becomes the frame's number, from 1, where `seq` is not NULL. Below 0 the queue is as it was.

 # Safety

 `publisher` is NULL or a handle that no other thread uses now; `payload` is NULL or valid for `payload_len` bytes; `seq`
 is NULL or a place for a number.
 */
chronicle_status chronicle_publisher_append(struct chronicle_publisher *publisher,
                                            uint64_t time_ns,
                                            uint16_t type_id,
                                            uint16_t flags,
                                            const uint8_t *payload,
                                            size_t payload_len,
                                            uint64_t *seq);

/*
 As chronicle_publisher_append(), but waits, at most `timeout_ns`, while nothing is ready.

 # Safety

 As chronicle_publisher_append().
 */
chronicle_status chronicle_publisher_append_wait(struct chronicle_publisher *publisher,
                                                 uint64_t time_ns,
                                                 uint16_t type_id,
                                                 uint16_t flags,
                                                 const uint8_t *payload,
                                                 size_t payload_len,
                                                 uint64_t timeout_ns,
                                                 uint64_t *seq);

/*
 Makes every frame appended so far durable. `*seq` becomes the last one that is, where `seq` is not NULL.

 # Safety

 As chronicle_publisher_append().
 */
chronicle_status chronicle_publisher_sync(struct chronicle_publisher *publisher, uint64_t *seq);

/*
 Syncs and ends. The handle is gone whatever is returned; below 0 the queue is left as by a crash of the process. NULL
 is nothing to end.

 # Safety

 `publisher` is NULL or a handle that no other thread uses now, and is not used again.
 */
chronicle_status chronicle_publisher_close(struct chronicle_publisher *publisher);

/*
 Why the last call of this thread that returned a status below 0 did: a sentence in UTF-8, "" if there was none.

 The string is the library's: it is valid until the thread's next call that fails, or the thread's end.
 */
const char *chronicle_last_error(void);

/*
 A status in two words, for logs: a string that is there for ever, "unknown" for a number that stands for nothing.
 */
const char *chronicle_status_name(int status);

/*
 Opens the queue at `path` for reading.

 `name` is the reader's: it has a cursor of its own and one reader at a time. NULL leaves no trace and commits nothing.
 `start` is one of CHRONICLE_START_*. On success `*subscriber` is a handle to be ended with
 chronicle_subscriber_close(), otherwise NULL. CHRONICLE_STATUS_NOT_FOUND: there is no queue yet.

 # Safety

 `path` and `name` are NULL or strings; `subscriber` is NULL or a place for a pointer.
 */
chronicle_status chronicle_subscriber_open(const char *path,
                                           const char *name,
                                           uint32_t start,
                                           struct chronicle_subscriber **subscriber);

/*
 Takes the next frame. CHRONICLE_STATUS_EMPTY: the writer has come no further, and `*frame` is as it was.

 CHRONICLE_STATUS_LOST, _LAPPED and _RESET are news, told once: the next call goes on behind them.

 # Safety

 `subscriber` is NULL or a handle that no other thread uses now; `frame` is NULL or a place for a frame.
 */
chronicle_status chronicle_subscriber_read(struct chronicle_subscriber *subscriber, struct chronicle_frame *frame);

/*
 Waits until there is something to read, at most `timeout_ns`: CHRONICLE_STATUS_OK, _TIMED_OUT, or why no frame will
 come for now, _CLOSED, _DIED or _STALE. Sleeps without cost to the writer.

 # Safety

 As chronicle_subscriber_read().
 */
chronicle_status chronicle_subscriber_wait(struct chronicle_subscriber *subscriber, uint64_t timeout_ns);

/*
 Stores the cursor behind the frames taken so far: where a reader of this name goes on. Without a name it does nothing.

 # Safety

 As chronicle_subscriber_read().
 */
chronicle_status chronicle_subscriber_commit(struct chronicle_subscriber *subscriber);

/*
 Ends. Frames taken and not committed come again. The handle is gone, and with it what its last frame lent. NULL is
 nothing to end.

 # Safety

 `subscriber` is NULL or a handle that no other thread uses now, and is not used again.
 */
chronicle_status chronicle_subscriber_close(struct chronicle_subscriber *subscriber);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CHRONICLE_H */
