/* A few threads that wait for work. */
#ifndef EMM_POOL_H
#define EMM_POOL_H

#include <stdatomic.h>

#include "emm_kernel.h"

typedef void (*emm_task)(void *argument, int index);

/* Run task(argument, 0) on the caller and task(argument, 1 ...) on up to `threads` - 1 others that are free to join;
 * returns when everyone has left it. A task must come to its end with the caller alone. */
void emm_run(int threads, emm_task task, void *argument);

/* How many threads a problem of so many multiplications may use, at most `threads`. */
int emm_threads_for(int threads, double multiplications);

/* One turn of waiting for another thread; counts its own turns in *turns. */
void emm_wait(unsigned *turns);

#endif
