// All arithmetic that the CPU and the CUDA library share.
#pragma once

#include "math/bilinear.h"
#include "math/spline.h"
