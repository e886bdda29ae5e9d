/* fft.h: the discrete Fourier transform of real sequences, for the powers of polynomials.
 *
 * A real sequence x of length 2 m is a polynomial modulo X^(2m) + 1.  Its values at the m points e^{i pi (4k + 1) / 2m}
 * (the others are their conjugates) are one complex transform of length m,
 *
 *   X_k = sum over j < m of (x_j + i x_(j+m)) e^{i pi j / 2m} e^{2 pi i j k / m},
 *
 * so that products of polynomials are products of these values, in whatever order they come: neither bit reversal nor
 * untangling of real and imaginary parts is needed.  What passes the end of the sequence comes back with its sign
 * changed. */
#ifndef PSG_ACCOUNTANT_FFT_H
#define PSG_ACCOUNTANT_FFT_H

#include <stddef.h>

#include "psg/base.h"

typedef struct psg_fft {
    psg_context *context;
    size_t length;    /* m, a power of two, at least 4 */
    double *twiddles; /* of every stage, then of the real sequence */
} psg_fft;

/* PSG_ERR_MEMORY.  Free it in any case. */
psg_status psg_fft_create(psg_context *context, const char *function, size_t length, psg_fft *fft);
void psg_fft_free(psg_fft *fft);

/* In place.  re, im: on entry x_0 .. x_(m-1) and x_m .. x_(2m-1), on return the values in an order of their own. */
void psg_fft_forward(const psg_fft *fft, double *re, double *im);
/* Back, divided by m. */
void psg_fft_backward(const psg_fft *fft, double *re, double *im);

/* An error bound for either direction: every value is within this times the sum of the moduli that went in (backward:
 * over m) of the exact one.  Each output is a sum over paths of one rounded twiddle and two additions a stage (Higham
 * 2002, section 24.1). */
double psg_fft_error(const psg_fft *fft);

#endif
