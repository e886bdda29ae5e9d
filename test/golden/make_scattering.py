"""Writes scattering.txt: kymatio's Scattering2D(J=2, shape=(28, 28), L=8) in double of two images whose pixels follow from
a formula (test_scattering.c has it), every seventh number.  pip install kymatio==0.3.0."""
import inspect

import kymatio.scattering2d.filter_bank as filter_bank
import kymatio.scattering2d.frontend.base_frontend as frontend
import numpy as np

# Its filters are made in single precision; these are the same in double.
source = inspect.getsource(filter_bank).replace("np.complex64", "np.complex128").replace("np.float32", "np.float64")
exec(compile(source, filter_bank.__file__, "exec"), filter_bank.__dict__)
frontend.filter_bank = filter_bank.filter_bank
from kymatio.scattering2d.frontend.numpy_frontend import ScatteringNumPy2D

pixel = np.arange(784)
images = np.stack([pixel * pixel * (k + 3) % 251 * (pixel // 28 % 5 > k) for k in range(2)]).reshape(2, 28, 28)
features = ScatteringNumPy2D(J=2, shape=(28, 28), L=8)(images.astype(np.float64) / 255)
np.savetxt("scattering.txt", features.reshape(-1)[::7], fmt="%.9e")
