// Layers of one form: their weights, and what rows of states go through apart from attention.
//
// Shapes: states float32 [rows, d_model].

#pragma once

#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/silu.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "maps.h"
#include "normed.h"

namespace regard {

using Maybe = std::optional<at::Tensor>;

constexpr int64_t PLAIN_APART = 24;     // rows of each thread; measured with two
constexpr int64_t SMALL_BYTES = 4 << 20;  // of weights that two threads may read side by side, measured too

// LayerNorm, or RMSNorm where the mean stays.
struct Norm {
  Maybe weight, bias;
  float eps = 0.0f;
  bool centered = true;

  // `made` may be x.
  void operator()(const float* x, int64_t rows, int64_t width, float* made) const {
    float statistics[2];
    for (int64_t r = 0; r < rows; ++r, x += width, made += width) {
      measure(x, width, centered, eps, statistics);
      norm_row(x, statistics, weight->data_ptr<float>(), maybe<float>(bias), width, made);
    }
  }
};

struct Layer {
  Map qkv, output, query, cross_output, expand, contract;
  Norm self_norm, cross_norm, feed_forward_norm;
};

struct Layers {
  int64_t d_model, heads, kv_heads, d_key, d_value;
  float scale, eps;
  bool pre, centered, gated;
  std::string activation;
  std::vector<Layer> layers;
  std::optional<Norm> last;
  int64_t bytes = 0;   // of all maps' weights
  int64_t widest = 0;  // outputs of a map

  Layers(std::vector<int64_t> sizes, double scale, double eps, bool pre, bool centered, bool gated, std::string activation)
      : d_model(sizes[0]), heads(sizes[1]), kv_heads(sizes[2]), d_key(sizes[3]), d_value(sizes[4]),
        scale(static_cast<float>(scale)), eps(static_cast<float>(eps)), pre(pre), centered(centered), gated(gated),
        activation(std::move(activation)) {}

  // Four tensors of each map, then two of each norm; those of cross-attention may lack.
  void add(const std::vector<Maybe>& t) {
    TORCH_CHECK(t.size() == 30, "a layer has 30 tensors, not ", t.size());
    const auto map = [&](int64_t i) {
      if (!t[4 * i]) return Map{};
      const Map made{*t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]};
      bytes += made.first.nbytes();
      widest = std::max(widest, made.outputs());
      return made;
    };
    const auto norm = [&](int64_t i) { return Norm{t[24 + 2 * i], t[25 + 2 * i], eps, centered}; };
    layers.push_back({map(0), map(1), map(2), map(3), map(4), map(5), norm(0), norm(1), norm(2)});
  }

  void end(const at::Tensor& weight, const Maybe& bias) { last = Norm{weight, bias, eps, centered}; }

  // Rows from which a thread reads all weights for itself: fewer would wait for them longer than for each other, but not
  // where they are small.
  int64_t rows_apart() const {
    if (layers[0].qkv.quantized()) return TILE;
    return bytes <= SMALL_BYTES ? 1 : PLAIN_APART;
  }

  // Room for what some rows become within a layer.
  struct Rooms {
    std::unique_ptr<float[]> normed, wide, mixed, added;

    Rooms(const Layers& all, int64_t rows)
        : normed(new float[rows * all.d_model]), wide(new float[rows * all.widest]),
          mixed(new float[rows * all.heads * all.d_value]), added(new float[rows * all.d_model]) {}
  };

  // What a sublayer reads.
  const float* before(const Norm& norm, const float* x, int64_t rows, const Rooms& rooms) const {
    if (!pre) return x;
    norm(x, rows, d_model, rooms.normed.get());
    return rooms.normed.get();
  }

  // The residual connection.
  void after(const Norm& norm, float* x, int64_t rows, const Rooms& rooms) const {
    for (int64_t i = 0; i < rows * d_model; ++i) x[i] += rooms.added[i];
    if (!pre) norm(x, rows, d_model, x);
  }

  // Queries, keys and values of self-attention beside each other in `wide`.
  void project(const Layer& layer, const float* x, int64_t rows, const Rooms& rooms) const {
    layer.qkv(before(layer.self_norm, x, rows, rooms), rows, d_model, rooms.wide.get());
  }

  // The end of an attention sublayer, whose mixture is in `mixed`.
  void merge(const Map& output, const Norm& norm, float* x, int64_t rows, const Rooms& rooms) const {
    output(rooms.mixed.get(), rows, heads * d_value, rooms.added.get());
    after(norm, x, rows, rooms);
  }

  // The feed-forward sublayer.
  void feed(const Layer& layer, float* x, int64_t rows, const Rooms& rooms) const {
    layer.expand(before(layer.feed_forward_norm, x, rows, rooms), rows, d_model, rooms.wide.get());
    const int64_t width = layer.expand.outputs();
    activate(rooms.wide.get(), rows, width);
    layer.contract(rooms.wide.get(), rows, gated ? width / 2 : width, rooms.added.get());
    after(layer.feed_forward_norm, x, rows, rooms);
  }

  // Rotary positions, in halves, of a row's queries and keys; its cosines and sines have d_key / 2.
  void rotate(float* joint, const float* cosines, const float* sines) const {
    const int64_t half = d_key / 2;
    for (int64_t h = 0; h < heads + kv_heads; ++h) {
      float *x = joint + h * d_key, *y = x + half;
      for (int64_t i = 0; i < half; ++i) {
        const float first = x[i] * cosines[i] - y[i] * sines[i];
        y[i] = y[i] * cosines[i] + x[i] * sines[i];
        x[i] = first;
      }
    }
  }

 private:
  // The activation of [rows, width], or of the first half of the columns times the second, in its place.
  void activate(float* wide, int64_t rows, int64_t width) const {
    if (activation == "relu" && !gated) {
      for (int64_t i = 0; i < rows * width; ++i) wide[i] = wide[i] < 0.0f ? 0.0f : wide[i];  // NaN stays
      return;
    }
    const int64_t inner = gated ? width / 2 : width;
    at::Tensor gate = at::from_blob(wide, {rows, width}, at::kFloat).narrow(1, 0, inner);
    if (activation == "relu") at::relu_(gate);
    if (activation == "gelu") at::gelu_(gate);
    if (activation == "gelu_tanh") at::gelu_(gate, "tanh");
    if (activation == "silu") at::silu_(gate);
    if (!gated) return;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < inner; ++i) wide[r * inner + i] = wide[r * width + i] * wide[r * width + inner + i];
  }
};

}  // namespace regard
