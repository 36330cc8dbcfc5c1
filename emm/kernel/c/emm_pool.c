/* Threads for the kernel. Purpose: helpers that are started once, when the first problem is large enough, and then
 * join whatever the caller computes. Invariants: the caller never waits for a helper that has not joined, so a helper
 * that is late, asleep or gone costs nothing; one caller at a time has them, another computes alone; after a fork the
 * child starts its own; helpers take no signals and hold nothing, so a process may exit under them. */

#define _GNU_SOURCE
#include "emm_pool.h"

#if defined(__unix__) || defined(__APPLE__)
#define EMM_HAVE_THREADS 1
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#else
#define EMM_HAVE_THREADS 0
#endif

#define SPINS_MAX 400 /* some 20 us: back-to-back calls find their helpers awake */
#define WORK_MIN (1u << 19)

static atomic_size_t work_min = WORK_MIN;

void emm_set_work_min(size_t multiplications) { atomic_store(&work_min, multiplications); }

int emm_threads_for(int threads, double multiplications) {
    if (multiplications < (double)atomic_load(&work_min) || threads < 1) return 1;
    return threads > EMM_THREADS_MAX ? EMM_THREADS_MAX : threads;
}

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#if EMM_HAVE_THREADS

void emm_wait(unsigned *turns) {
    if (++*turns < SPINS_MAX)
        relax();
    else
        sched_yield(); /* more threads than processors: let the one we wait for run */
}

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int n_helpers, n_asleep, wanted; /* under the lock */
    emm_task task;
    void *argument;
    int n_joined;       /* of the present task; under the lock */
    atomic_uint number; /* of tasks so far: what a spinning helper watches */
    atomic_int n_inside;
    atomic_flag taken; /* one caller at a time */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .taken = ATOMIC_FLAG_INIT};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void *help(void *nothing) {
    unsigned seen = 0;
    (void)nothing;
    for (;;) {
        for (unsigned turns = 0; atomic_load(&pool.number) == seen && turns < SPINS_MAX; turns++) relax();
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.number) == seen) {
            pool.n_asleep++;
            pthread_cond_wait(&pool.wake, &pool.lock);
            pool.n_asleep--;
        }
        seen = atomic_load(&pool.number);
        int index = pool.task && pool.n_joined < pool.wanted ? ++pool.n_joined : 0;
        emm_task task = pool.task;
        void *argument = pool.argument;
        if (index) atomic_fetch_add(&pool.n_inside, 1);
        pthread_mutex_unlock(&pool.lock);
        if (index) {
            task(argument, index);
            atomic_fetch_sub(&pool.n_inside, 1);
        }
    }
    return NULL;
}

/* The child of a fork has none of the helpers, and locks as they happened to be. */
static void forget_helpers(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.n_helpers = pool.n_asleep = pool.wanted = pool.n_joined = 0;
    pool.task = NULL;
    atomic_store(&pool.number, 0);
    atomic_store(&pool.n_inside, 0);
    atomic_flag_clear(&pool.taken);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, forget_helpers); }

/* Under the lock. A thread that cannot be started is done without. */
static void start_helpers(int wanted) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.n_helpers < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, NULL)) break;
        pthread_detach(thread);
        pool.n_helpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void emm_run(int threads, emm_task task, void *argument) {
    if (threads < 2 || atomic_flag_test_and_set(&pool.taken)) {
        task(argument, 0);
        return;
    }
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&pool.lock);
    if (pool.n_helpers < threads - 1) start_helpers(threads - 1);
    pool.task = task;
    pool.argument = argument;
    pool.wanted = threads - 1;
    pool.n_joined = 0;
    atomic_fetch_add(&pool.number, 1);
    if (pool.n_asleep) pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    task(argument, 0);
    pthread_mutex_lock(&pool.lock);
    pool.task = NULL; /* nobody joins from here on */
    pthread_mutex_unlock(&pool.lock);
    for (unsigned turns = 0; atomic_load(&pool.n_inside);) emm_wait(&turns);
    atomic_flag_clear(&pool.taken);
}

#else

void emm_wait(unsigned *turns) { (void)turns; }

void emm_run(int threads, emm_task task, void *argument) {
    (void)threads;
    task(argument, 0);
}

#endif
