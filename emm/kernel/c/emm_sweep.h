/* From gains to M: the sweep over its rows, on any number of threads. */
#ifndef EMM_SWEEP_H
#define EMM_SWEEP_H

#include "emm_gains.h"

#define CHUNKS_AHEAD 4 /* chunks of gains that may be in the making or in use at once */

typedef struct {
    const emm_operations *operations;
    size_t dim, n;
    float *matrix;       /* (dim, rank) */
    const float *values; /* (n, dim); NULL: zeros */
    double *squares;     /* (n,), or NULL */
    float *undo;         /* (dim, rank) */
    float *work;
    emm_stage *stage;      /* makes the gains as the sweep goes on; NULL when they are given: */
    const float *x;        /* (n, rank) */
    const float *gains;    /* (n, rank) */
    const uint8_t *active; /* (n,) */
    const float *decay;    /* (n,) */
} emm_sweep_task;

size_t emm_sweep_floats(size_t dim, size_t rank, int threads);

/* M after all pairs; when one is refused M is as it was. */
void emm_sweep(emm_sweep_task *task, size_t rank, int threads, emm_outcome *outcome);

#endif
