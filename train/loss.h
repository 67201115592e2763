/* Cross entropy behind a softmax, against labels or against soft targets.
 *
 * All functions: logits, dlogits [n, classes] f32, dlogits overwritten with
 * weight * d(mean loss)/d(logits); the loss returned is the mean over the n
 * rows in nats, without the weight. Not finite if a logit is not. */
#ifndef ESPALIER_LOSS_H
#define ESPALIER_LOSS_H

/* `smoothing` s: target 1 - s + s/classes for the label, s/classes elsewhere
 * (Szegedy et al., Rethinking the Inception architecture, 2016). `correct`
 * counts rows whose largest logit is the label's. */
double loss_labels(const float *logits, const int *labels, int n, int classes, float smoothing, float weight,
                   float *dlogits, int *correct);
/* Cross entropy against target [n, classes], rows that sum to 1 (in-place
 * distillation: Yu, Huang, Universally slimmable networks, 2019). */
double loss_targets(const float *logits, const float *target, int n, int classes, float weight, float *dlogits);
/* Rows of probabilities; may be done in place. */
void loss_softmax(const float *logits, int n, int classes, float *probabilities);
/* Rows whose largest logit is the label's; a row with a NaN is wrong. */
int loss_correct(const float *logits, const int *labels, int n, int classes);

#endif
