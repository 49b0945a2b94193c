// Skip-gram and CBOW with negative sampling on words in a row: each window is a product of two
// small matrices, its inputs and its outputs, as in Ji et al. 2016. What is drawn comes from outside.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

typedef float Lanes __attribute__((vector_size(64)));
constexpr int64_t LANES = 16, BLOCK = 6;

static inline Lanes get(const float* from) {
  Lanes x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

static inline void put(float* to, Lanes x) { std::memcpy(to, &x, sizeof x); }

static inline float total(Lanes x) {
  float sum = 0;
  for (int64_t i = 0; i < LANES; ++i) sum += x[i];
  return sum;
}

// scores[i * outputs + first + j] = <h_i, w_j> for N outputs at a time.
template <int64_t N>
static void multiply(const float* h, int64_t inputs, const float* w, int64_t dim, float* scores,
                     int64_t outputs) {
  for (int64_t i = 0; i < inputs; ++i) {
    Lanes sums[N] = {};
    for (int64_t d = 0; d < dim; d += LANES) {
      const Lanes x = get(h + i * dim + d);
      for (int64_t j = 0; j < N; ++j) sums[j] += x * get(w + j * dim + d);
    }
    for (int64_t j = 0; j < N; ++j) scores[i * outputs + j] = total(sums[j]);
  }
}

// change_h_i += sum_j error_ij w_j, and w_j's row in `rows` += sum_i error_ij h_i.
template <int64_t N>
static void change(const float* h, float* change_h, int64_t inputs, const float* w,
                   float* const* rows, int64_t dim, const float* errors, int64_t outputs) {
  for (int64_t d = 0; d < dim; d += LANES) {
    Lanes weight[N], moved[N] = {};
    for (int64_t j = 0; j < N; ++j) weight[j] = get(w + j * dim + d);
    for (int64_t i = 0; i < inputs; ++i) {
      const Lanes x = get(h + i * dim + d);
      Lanes y = get(change_h + i * dim + d);
      for (int64_t j = 0; j < N; ++j) {
        const float error = errors[i * outputs + j];
        y += error * weight[j];
        moved[j] += error * x;
      }
      put(change_h + i * dim + d, y);
    }
    for (int64_t j = 0; j < N; ++j) put(rows[j] + d, get(rows[j] + d) + moved[j]);
  }
}

// Moves the tables (words, dim), dim a multiple of 16, by all windows in order; the summed loss.
extern "C" double word2vec(float* in, float* out, int64_t dim, const int32_t* words,
                           const int32_t* left, const int32_t* right, const int32_t* negatives,
                           int64_t k, int64_t first, int64_t last, float lr, int cbow) {
  std::vector<float> h, moved, w((k + 1) * dim), scores;
  std::vector<float*> rows(k + 1);
  double loss = 0;
  for (int64_t at = first; at < last; ++at) {
    const int64_t context = left[at] + right[at], inputs = cbow ? 1 : context, outputs = k + 1;
    if (!context) continue;
    h.assign(inputs * dim, 0);
    moved.assign(inputs * dim, 0);
    scores.resize(inputs * outputs);
    const int32_t* around[2] = {words + at - left[at], words + at + 1};
    const int64_t many[2] = {left[at], right[at]};
    int64_t row = 0;
    for (int side = 0; side < 2; ++side)
      for (int64_t i = 0; i < many[side]; ++i, ++row) {
        const float* from = in + around[side][i] * dim;
        if (!cbow) std::memcpy(&h[row * dim], from, dim * sizeof(float));
        else for (int64_t d = 0; d < dim; ++d) h[d] += from[d] / context;
      }
    for (int64_t j = 0; j < outputs; ++j) {
      rows[j] = out + (j ? negatives[at * k + j - 1] : words[at]) * dim;
      std::memcpy(&w[j * dim], rows[j], dim * sizeof(float));
    }
    int64_t j = 0;
    for (; j + BLOCK <= outputs; j += BLOCK)
      multiply<BLOCK>(h.data(), inputs, &w[j * dim], dim, &scores[j], outputs);
    for (; j < outputs; ++j)
      multiply<1>(h.data(), inputs, &w[j * dim], dim, &scores[j], outputs);
    // Score to error, in place: lr (label − σ). The loss is −log Π σ(±score), one logarithm a row.
    for (int64_t i = 0; i < inputs; ++i) scores[i * outputs] = -scores[i * outputs];
    for (float& x : scores) x = std::fmin(std::fmax(x, -30.0f), 30.0f);
    for (float& x : scores) x = 1 / (1 + std::exp(-x));
    for (int64_t i = 0; i < inputs; ++i) {
      float* row_scores = &scores[i * outputs];
      double right_share = 1;
      for (int64_t j = 0; j < outputs; ++j) {
        if (j && rows[j] == rows[0]) row_scores[j] = 0;  // a negative that is the word itself
        right_share *= 1 - static_cast<double>(row_scores[j]);
        row_scores[j] *= j ? -lr : lr;
        if (j % 16 == 15 || j + 1 == outputs) {
          loss -= std::log(std::fmax(right_share, 1e-300));
          right_share = 1;
        }
      }
    }
    for (j = 0; j + BLOCK <= outputs; j += BLOCK)
      change<BLOCK>(h.data(), moved.data(), inputs, &w[j * dim], &rows[j], dim, &scores[j], outputs);
    for (; j < outputs; ++j)
      change<1>(h.data(), moved.data(), inputs, &w[j * dim], &rows[j], dim, &scores[j], outputs);
    row = 0;
    for (int side = 0; side < 2; ++side)
      for (int64_t i = 0; i < many[side]; ++i, ++row) {
        float* to = in + around[side][i] * dim;
        const float* by = &moved[cbow ? 0 : row * dim];
        for (int64_t d = 0; d < dim; ++d) to[d] += by[d];
      }
  }
  return loss;
}
