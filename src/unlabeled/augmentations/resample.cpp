// Each image through its own affine map. The arithmetic is that of geometry.py, operation by
// operation, so that "nearest" takes the very same pixels.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

struct Bytes {
  float as_float[256];
  Bytes() {
    for (int i = 0; i < 256; ++i) as_float[i] = i / 255.0f;
  }
};
const Bytes bytes;

float value(float x) { return x; }
float value(uint8_t x) { return bytes.as_float[x]; }

// Leaves of first..last about the i with low <= start + i * slope < high; places is 1 / slope.
void narrow(float start, float places, float low, float high, float& first, float& last) {
  const float a = (low - start) * places, b = (high - start) * places;
  if (std::isnan(a) || std::isnan(b)) return;
  first = std::max(first, std::min(a, b));
  last = std::min(last, std::max(a, b));
}

// Of four neighbors, by where (px, py) lies among them; outside is 0.
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
void resample(const T* x, const float* matrix, float* out, int64_t images, int64_t channels,
              int64_t height, int64_t width, int64_t out_height, int64_t out_width, bool bilinear) {
  const float half_w = width / 2.0f, half_h = height / 2.0f;
  const float out_half_w = out_width / 2.0f, out_half_h = out_height / 2.0f;
  const float border = bilinear ? 1.0f : 1.5f, least = bilinear ? 0.0f : 1.0f;
  const int64_t area = height * width, out_area = out_height * out_width;
  std::vector<float> column_x(out_width), column_y(out_width);
  std::vector<int32_t> place(out_width);
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t i = 0; i < out_width; ++i) {
      const float across = (i + 0.5f) / out_half_w - 1.0f;
      column_x[i] = matrix[0] * across * half_w;
      column_y[i] = matrix[3] * across * half_h;
    }
    const float places_x = out_half_w / (matrix[0] * half_w);
    const float places_y = out_half_w / (matrix[3] * half_h);
    std::fill(out, out + channels * out_area, 0.0f);
    for (int64_t j = 0; j < out_height; ++j) {
      const float down = (j + 0.5f) / out_half_h - 1.0f;
      const float row_x = (matrix[1] * down + matrix[2] + 1.0f) * half_w - 0.5f;
      const float row_y = (matrix[4] * down + matrix[5] + 1.0f) * half_h - 0.5f;
      const auto inside = [&](int64_t i) {
        const float px = column_x[i] + row_x + border, py = column_y[i] + row_y + border;
        return px >= least && py >= least && px < width + 1.0f && py < height + 1.0f;
      };
      // Both coordinates are monotone in i: what falls on the image is one span of the line,
      // computed first and then put right to the pixel.
      float begin = 0.0f, end = out_width;
      narrow(column_x[0] + row_x + border, places_x, least, width + 1.0f, begin, end);
      narrow(column_y[0] + row_y + border, places_y, least, height + 1.0f, begin, end);
      int64_t first = std::ceil(std::min<float>(begin, out_width));
      int64_t last = std::ceil(std::max(end, 0.0f));
      while (first > 0 && inside(first - 1)) --first;
      while (first < last && !inside(first)) ++first;
      while (last < out_width && inside(last)) ++last;
      while (first < last && !inside(last - 1)) --last;

      const float *at_x = column_x.data(), *at_y = column_y.data();
      int32_t* at = place.data();
      if (!bilinear)
        for (int64_t i = first; i < last; ++i) {
          const int32_t u = static_cast<int32_t>(at_x[i] + row_x + border) - 1;
          const int32_t v = static_cast<int32_t>(at_y[i] + row_y + border) - 1;
          at[i] = v * static_cast<int32_t>(width) + u;
        }
      for (int64_t c = 0; c < channels; ++c) {
        const T* from = x + c * area;
        float* to = out + c * out_area + j * out_width;
        if (bilinear)
          for (int64_t i = first; i < last; ++i)
            to[i] = between(from, at_x[i] + row_x, at_y[i] + row_y, height, width);
        else
          for (int64_t i = first; i < last; ++i) to[i] = value(from[at[i]]);
      }
    }
    matrix += 6, x += channels * area, out += channels * out_area;
  }
}

}  // namespace

extern "C" void resample_floats(const float* x, const float* matrix, float* out, int64_t images,
                                int64_t channels, int64_t height, int64_t width, int64_t out_height,
                                int64_t out_width, int bilinear) {
  resample(x, matrix, out, images, channels, height, width, out_height, out_width, bilinear);
}

extern "C" void resample_bytes(const uint8_t* x, const float* matrix, float* out, int64_t images,
                               int64_t channels, int64_t height, int64_t width, int64_t out_height,
                                int64_t out_width, int bilinear) {
  resample(x, matrix, out, images, channels, height, width, out_height, out_width, bilinear);
}
