// Batches of spline fits, shared by the ops that fit inside; arrays as in math/spline.h with a leading `count`.
#pragma once

#include <cstdint>

namespace lami {

// The regularisation that TPSMM fits its motions with.
constexpr double kMotionRegularization = 0.01;

// T is float or double; 3 <= n <= 16.
template <typename T>
void fit_splines(const T* points, const T* values, int64_t count, int64_t n, double regularization, T* theta,
                 T* weights);

// theta and weights are the result of the fit.
template <typename T>
void fit_splines_adjoint(const T* grad_theta, const T* grad_weights, const T* points, const T* theta, const T* weights,
                         int64_t count, int64_t n, double regularization, T* grad_points, T* grad_values);

}  // namespace lami
