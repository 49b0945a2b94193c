// Each picture through its own affine map. The arithmetic is that of geometry.py, operation by
// operation, so that "nearest" takes the very same pixels.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

float value(float x) { return x; }
float value(uint8_t x) { return x / 255.0f; }

// Leaves of first..last the i with low <= start + i * slope < high, and one or two more.
void narrow(float start, float slope, float low, float high, int64_t& first, int64_t& last) {
  const float a = (low - start) / slope, b = (high - start) / slope, most = last;
  if (std::isnan(a) || std::isnan(b)) return;
  first = std::max<int64_t>(first, std::clamp(std::min(a, b) - 1.0f, 0.0f, most));
  last = std::min<int64_t>(last, std::clamp(std::max(a, b) + 2.0f, 0.0f, most));
}

// Of four neighbours, by where (px, py) lies among them; outside is 0.
template <typename T>
float between(const T* x, float px, float py, int64_t height, int64_t width) {
  const int64_t u = static_cast<int64_t>(px + 1.0f) - 1, v = static_cast<int64_t>(py + 1.0f) - 1;
  const float right = px - u, low = py - v;
  const bool left_in = u >= 0, right_in = u + 1 < width, top_in = v >= 0, low_in = v + 1 < height;
  const T* from = x + v * width + u;
  const float a = top_in && left_in ? value(from[0]) : 0.0f;
  const float b = top_in && right_in ? value(from[1]) : 0.0f;
  const float c = low_in && left_in ? value(from[width]) : 0.0f;
  const float d = low_in && right_in ? value(from[width + 1]) : 0.0f;
  const float top = a + (b - a) * right, bottom = c + (d - c) * right;
  return top + (bottom - top) * low;
}

template <typename T>
void resample(const T* x, const float* matrix, float* out, int64_t pictures, int64_t channels,
              int64_t height, int64_t width, bool bilinear) {
  const float half_w = width / 2.0f, half_h = height / 2.0f;
  const float border = bilinear ? 1.0f : 1.5f, least = bilinear ? 0.0f : 1.0f;
  const int64_t area = height * width;
  std::vector<float> column_x(width), column_y(width);
  std::vector<int32_t> place(width);
  for (int64_t n = 0; n < pictures; ++n, matrix += 6, x += channels * area, out += channels * area) {
    for (int64_t i = 0; i < width; ++i) {
      const float across = (i + 0.5f) / half_w - 1.0f;
      column_x[i] = matrix[0] * across * half_w;
      column_y[i] = matrix[3] * across * half_h;
    }
    for (int64_t j = 0; j < height; ++j) {
      const float down = (j + 0.5f) / half_h - 1.0f;
      const float row_x = (matrix[1] * down + matrix[2] + 1.0f) * half_w - 0.5f;
      const float row_y = (matrix[4] * down + matrix[5] + 1.0f) * half_h - 0.5f;
      const auto inside = [&](int64_t i) {
        const float px = column_x[i] + row_x + border, py = column_y[i] + row_y + border;
        return px >= least && py >= least && px < width + 1.0f && py < height + 1.0f;
      };
      // Both coordinates are monotone in i: what falls on the picture is one span of the line.
      int64_t first = 0, last = width;
      const float begin_x = column_x[0] + row_x + border, begin_y = column_y[0] + row_y + border;
      narrow(begin_x, matrix[0], least, width + 1.0f, first, last);
      narrow(begin_y, matrix[3] * half_h / half_w, least, height + 1.0f, first, last);
      while (first < last && !inside(first)) ++first;
      while (first < last && !inside(last - 1)) --last;
      last = std::max(first, last);

      if (!bilinear)
        for (int64_t i = first; i < last; ++i) {
          const int32_t u = static_cast<int32_t>(column_x[i] + row_x + border) - 1;
          const int32_t v = static_cast<int32_t>(column_y[i] + row_y + border) - 1;
          place[i] = v * static_cast<int32_t>(width) + u;
        }
      for (int64_t c = 0; c < channels; ++c) {
        const T* from = x + c * area;
        float* to = out + c * area + j * width;
        std::fill(to, to + first, 0.0f);
        std::fill(to + last, to + width, 0.0f);
        if (bilinear)
          for (int64_t i = first; i < last; ++i)
            to[i] = between(from, column_x[i] + row_x, column_y[i] + row_y, height, width);
        else
          for (int64_t i = first; i < last; ++i) to[i] = value(from[place[i]]);
      }
    }
  }
}

}  // namespace

extern "C" void resample_floats(const float* x, const float* matrix, float* out, int64_t pictures,
                                int64_t channels, int64_t height, int64_t width, int bilinear) {
  resample(x, matrix, out, pictures, channels, height, width, bilinear);
}

extern "C" void resample_bytes(const uint8_t* x, const float* matrix, float* out, int64_t pictures,
                               int64_t channels, int64_t height, int64_t width, int bilinear) {
  resample(x, matrix, out, pictures, channels, height, width, bilinear);
}
