/* event.h: what an event must be. */
#ifndef PSG_ACCOUNTANT_EVENT_H
#define PSG_ACCOUNTANT_EVENT_H

#include "psg/accountant.h"

/* PSG_ERR_ARGUMENT names the field, PSG_ERR_UNSUPPORTED the sampling without a bound; the message begins with
 * function. */
psg_status psg_event_check(psg_context *context, const char *function, const psg_event *event, psg_relation relation);

int psg_event_equal(const psg_event *a, const psg_event *b);

/* EPOCHS and BALLS_IN_BINS of one number of batches go on where the last such event ended. */
int psg_event_same_epochs(const psg_event *a, const psg_event *b);

#endif
