// Blur and colors of each image with its own numbers, in one pass over the pixels.
#include <algorithm>
#include <cstdint>
#include <vector>

// An affine map of red, green and blue, clipped to [0, 1].
extern "C" void recolor(const float* x, const float* matrix, const float* shift, float* out,
                        int64_t images, int64_t area) {
  for (int64_t n = 0; n < images; ++n, matrix += 9, x += 3 * area, out += 3 * area) {
    const float *red = x, *green = x + area, *blue = x + 2 * area, b = shift[n];
    for (int64_t c = 0; c < 3; ++c) {
      const float r = matrix[3 * c], g = matrix[3 * c + 1], l = matrix[3 * c + 2];
      float* to = out + c * area;
      for (int64_t i = 0; i < area; ++i) {
        const float value = b + r * red[i] + g * green[i] + l * blue[i];
        to[i] = std::min(std::max(value, 0.0f), 1.0f);
      }
    }
  }
}

// A separable filter with a symmetric kernel; edges are reflected.
extern "C" void blur(const float* x, const float* kernels, float* out, int64_t images,
                     int64_t channels, int64_t height, int64_t width, int64_t radius) {
  const int64_t taps = 2 * radius + 1;
  std::vector<float> line(width + 2 * radius), across(height * width);
  for (int64_t n = 0; n < images; ++n, kernels += taps) {
    for (int64_t c = 0; c < channels; ++c, x += height * width, out += height * width) {
      for (int64_t j = 0; j < height; ++j) {
        const float* from = x + j * width;
        for (int64_t i = 0; i < width; ++i) line[radius + i] = from[i];
        for (int64_t k = 1; k <= radius; ++k) {
          line[radius - k] = from[k];
          line[radius + width - 1 + k] = from[width - 1 - k];
        }
        float* to = across.data() + j * width;
        for (int64_t i = 0; i < width; ++i) to[i] = kernels[0] * line[i];
        for (int64_t t = 1; t < taps; ++t) {
          const float weight = kernels[t];
          if (weight == 0.0f) continue;
          const float* shifted = line.data() + t;
          for (int64_t i = 0; i < width; ++i) to[i] += weight * shifted[i];
        }
      }
      for (int64_t j = 0; j < height; ++j) {
        float* to = out + j * width;
        for (int64_t i = 0; i < width; ++i) to[i] = 0.0f;
        for (int64_t t = 0; t < taps; ++t) {
          const float weight = kernels[t];
          if (weight == 0.0f) continue;
          int64_t row = j + t - radius;
          if (row < 0) row = -row;
          if (row >= height) row = 2 * (height - 1) - row;
          const float* from = across.data() + row * width;
          for (int64_t i = 0; i < width; ++i) to[i] += weight * from[i];
        }
      }
    }
  }
}
