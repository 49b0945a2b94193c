// Each picture through its own affine map. The arithmetic is that of geometry.py, operation by
// operation, so that "nearest" takes the very same pixels.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

extern "C" void resample(const float* x, const float* matrix, float* out, int64_t pictures,
                         int64_t channels, int64_t height, int64_t width, int bilinear) {
  const float half_w = width / 2.0f, half_h = height / 2.0f;
  std::vector<float> column_x(width), column_y(width);
  std::vector<int64_t> place(width);
  for (int64_t n = 0; n < pictures; ++n, matrix += 6) {
    for (int64_t i = 0; i < width; ++i) {
      const float across = (i + 0.5f) / half_w - 1.0f;
      column_x[i] = matrix[0] * across * half_w;
      column_y[i] = matrix[3] * across * half_h;
    }
    for (int64_t j = 0; j < height; ++j) {
      const float down = (j + 0.5f) / half_h - 1.0f;
      const float row_x = (matrix[1] * down + matrix[2] + 1.0f) * half_w - 0.5f;
      const float row_y = (matrix[4] * down + matrix[5] + 1.0f) * half_h - 0.5f;
      const float* picture = x + n * channels * height * width;
      float* line = out + (n * channels * height + j) * width;
      if (!bilinear) {
        for (int64_t i = 0; i < width; ++i) {
          const float px = column_x[i] + row_x + 1.5f, py = column_y[i] + row_y + 1.5f;
          const int32_t u = static_cast<int32_t>(std::min(std::max(0.0f, px), width + 1.0f)) - 1;
          const int32_t v = static_cast<int32_t>(std::min(std::max(0.0f, py), height + 1.0f)) - 1;
          const bool inside = u >= 0 && v >= 0 && u < width && v < height;
          place[i] = inside ? v * width + u : -1;
        }
        for (int64_t c = 0; c < channels; ++c) {
          const float* from = picture + c * height * width;
          float* to = line + c * height * width;
          for (int64_t i = 0; i < width; ++i) to[i] = place[i] < 0 ? 0.0f : from[place[i]];
        }
        continue;
      }
      for (int64_t i = 0; i < width; ++i) {
        const float px = column_x[i] + row_x, py = column_y[i] + row_y;
        float* to = line + i;
        if (!(px > -1.0f && py > -1.0f && px < width && py < height)) {
          for (int64_t c = 0; c < channels; ++c) to[c * height * width] = 0.0f;
          continue;
        }
        const int64_t u = static_cast<int64_t>(px + 1.0f) - 1, v = static_cast<int64_t>(py + 1.0f) - 1;
        const float right = px - u, low = py - v;
        const bool left_in = u >= 0, right_in = u + 1 < width, top_in = v >= 0, low_in = v + 1 < height;
        for (int64_t c = 0; c < channels; ++c) {
          const float* from = picture + (c * height + v) * width + u;
          const float a = top_in && left_in ? from[0] : 0.0f;
          const float b = top_in && right_in ? from[1] : 0.0f;
          const float d = low_in && left_in ? from[width] : 0.0f;
          const float e = low_in && right_in ? from[width + 1] : 0.0f;
          const float top = a + (b - a) * right, bottom = d + (e - d) * right;
          to[c * height * width] = top + (bottom - top) * low;
        }
      }
    }
  }
}
