// A whole stack's step of decoding in one call: what `regard.nn.stack.Stack` does with a cache.
//
// Shapes: states float32 [B, T, d_model], T tokens of each sentence in this step; keys [B, Hkv, slots, d_key] and
// values [B, Hkv, slots, d_value] of each layer; allowed as in attend.h.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/silu.h>
#include <torch/custom_class.h>

#include <cmath>
#include <string>
#include <vector>

#include "attend.h"
#include "maps.h"

namespace regard {

using Tensors = std::vector<at::Tensor>;
using Maybe = std::optional<at::Tensor>;

// LayerNorm, or RMSNorm where the mean stays.
struct Norm {
  Maybe weight, bias;
  float eps = 0.0f;
  bool centered = true;

  void operator()(const float* x, int64_t rows, int64_t width, float* made) const {
    const float* scale = weight->data_ptr<float>();
    const float* shift = bias.has_value() ? bias->data_ptr<float>() : nullptr;
    for (int64_t r = 0; r < rows; ++r, x += width, made += width) {
      double sum = 0.0, squares = 0.0;
      if (centered) {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; ++i) sum += x[i];
      }
      const float mean = static_cast<float>(sum / width);
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < width; ++i) squares += static_cast<double>(x[i] - mean) * (x[i] - mean);
      const float factor = static_cast<float>(1.0 / std::sqrt(squares / width + eps));
      for (int64_t i = 0; i < width; ++i) made[i] = (x[i] - mean) * factor * scale[i] + (shift ? shift[i] : 0.0f);
    }
  }
};

struct Layer {
  Map qkv, output, query, cross_output, expand, contract;
  Norm self_norm, cross_norm, feed_forward_norm;
};

struct Stack : torch::CustomClassHolder {
  int64_t d_model, heads, kv_heads, d_key, d_value;
  float scale, eps;
  bool pre, centered, gated;
  std::string activation;
  std::vector<Layer> layers;
  std::optional<Norm> last;

  Stack(std::vector<int64_t> sizes, double scale, double eps, bool pre, bool centered, bool gated, std::string activation)
      : d_model(sizes[0]), heads(sizes[1]), kv_heads(sizes[2]), d_key(sizes[3]), d_value(sizes[4]),
        scale(static_cast<float>(scale)), eps(static_cast<float>(eps)), pre(pre), centered(centered), gated(gated),
        activation(std::move(activation)) {}

  // Four tensors of each map, then two of each norm; those of cross-attention may lack.
  void add(const std::vector<Maybe>& t) {
    const auto map = [&](int64_t i) {
      return t[4 * i] ? Map{*t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]} : Map{};
    };
    const auto norm = [&](int64_t i) { return Norm{t[24 + 2 * i], t[25 + 2 * i], eps, centered}; };
    layers.push_back({map(0), map(1), map(2), map(3), map(4), map(5), norm(0), norm(1), norm(2)});
  }

  void end(const at::Tensor& weight, const Maybe& bias) { last = Norm{weight, bias, eps, centered}; }

  // States after all layers [B, T, d_model]; the cache's buffers take the new keys and values from `start` on.
  at::Tensor step(const at::Tensor& states, const Tensors& keys, const Tensors& values, int64_t start,
                  const Maybe& allowed, const Tensors& memory_keys, const Tensors& memory_values,
                  const Maybe& memory_allowed, const Maybe& cosines, const Maybe& sines) const {
    TORCH_CHECK(states.dim() == 3 && states.is_cpu() && states.scalar_type() == at::kFloat &&
                    states.size(2) == d_model && keys.size() == layers.size(), "the states do not fit the stack");
    at::Tensor made = states.clone(at::MemoryFormat::Contiguous);
    if (made.numel() == 0) return made;
    const int64_t batch = states.size(0), length = states.size(1);
    const int64_t remembered = memory_keys.empty() ? 0 : memory_keys[0].size(2);
    const Step step{keys, values, memory_keys, memory_values, Seen(allowed, batch, length, start + length),
                    Seen(memory_allowed, batch, length, remembered), cosines, sines, start, length,
                    made.data_ptr<float>()};
    const int64_t sentences = states.size(0), threads = at::get_num_threads();
    // Rows enough for every thread: each goes its own way through all layers, and none waits for another. Not so with
    // float32 weights: to read them once for each thread takes longer than the waiting.
    const bool apart = layers[0].qkv.quantized() && sentences >= threads && sentences * step.length >= TILE * threads;
    const int64_t grain = apart ? (sentences + threads - 1) / threads : sentences;
    at::parallel_for(0, sentences, grain, [&](int64_t begin, int64_t end) { run(step, begin, end); });
    return made;
  }

 private:
  struct Step {
    const Tensors &keys, &values, &memory_keys, &memory_values;
    Seen seen, memory_seen;
    const Maybe &cosines, &sines;
    int64_t start, length;
    float* states;
  };

  void run(const Step& step, int64_t begin, int64_t end) const {
    const int64_t rows = (end - begin) * step.length;
    float* x = step.states + begin * step.length * d_model;
    std::vector<float> normed(rows * d_model), wide, mixed(rows * heads * d_value), added(rows * d_model);
    for (size_t l = 0; l < layers.size(); ++l) {
      const Layer& layer = layers[l];
      const Heads keys(step.keys[l], step.start + step.length), values(step.values[l], step.start + step.length);
      wide.resize(rows * layer.qkv.outputs());
      layer.qkv(before(layer.self_norm, x, rows, normed), rows, d_model, wide.data());
      rotate(step, begin, end, wide.data());
      keep(step, begin, end, wide.data(), keys, values);
      attend_all({wide.data(), layer.qkv.outputs(), heads, step.length}, keys, values, kv_heads, step.seen, scale, begin,
                 end, mixed.data());
      layer.output(mixed.data(), rows, heads * d_value, added.data());
      after(layer.self_norm, x, added, rows);
      if (!step.memory_keys.empty()) {
        layer.query(before(layer.cross_norm, x, rows, normed), rows, d_model, wide.data());
        attend_all({wide.data(), layer.query.outputs(), heads, step.length}, Heads(step.memory_keys[l]),
                   Heads(step.memory_values[l]), kv_heads, step.memory_seen, scale, begin, end, mixed.data());
        layer.cross_output(mixed.data(), rows, heads * d_value, added.data());
        after(layer.cross_norm, x, added, rows);
      }
      wide.resize(rows * layer.expand.outputs());
      layer.expand(before(layer.feed_forward_norm, x, rows, normed), rows, d_model, wide.data());
      layer.contract(activate(wide, rows), rows, layer.expand.outputs() / (gated ? 2 : 1), added.data());
      after(layer.feed_forward_norm, x, added, rows);
    }
    if (last) (*last)(x, rows, d_model, x);
  }

  // What a sublayer reads.
  const float* before(const Norm& norm, const float* x, int64_t rows, std::vector<float>& normed) const {
    if (!pre) return x;
    norm(x, rows, d_model, normed.data());
    return normed.data();
  }

  // The residual connection.
  void after(const Norm& norm, float* x, const std::vector<float>& added, int64_t rows) const {
    for (int64_t i = 0; i < rows * d_model; ++i) x[i] += added[i];
    if (!pre) norm(x, rows, d_model, x);
  }

  // Rotary positions, in halves, of the queries and keys in [rows, (H + Hkv) · d_key + Hkv · d_value].
  void rotate(const Step& step, int64_t begin, int64_t end, float* joint) const {
    if (!step.cosines.has_value()) return;
    const int64_t half = d_key / 2, width = (heads + kv_heads) * d_key + kv_heads * d_value;
    const int64_t by_batch = step.cosines->size(0) > 1 ? step.cosines->stride(0) : 0;
    for (int64_t b = begin; b < end; ++b)
      for (int64_t t = 0; t < step.length; ++t, joint += width) {
        const float* c = step.cosines->data_ptr<float>() + b * by_batch + t * half;
        const float* s = step.sines->data_ptr<float>() + b * by_batch + t * half;
        for (int64_t h = 0; h < heads + kv_heads; ++h) {
          float *x = joint + h * d_key, *y = x + half;
          for (int64_t i = 0; i < half; ++i) {
            const float first = x[i] * c[i] - y[i] * s[i];
            y[i] = y[i] * c[i] + x[i] * s[i];
            x[i] = first;
          }
        }
      }
  }

  // New keys and values into the cache.
  void keep(const Step& step, int64_t begin, int64_t end, const float* joint, const Heads& keys, const Heads& values) const {
    const int64_t width = (heads + kv_heads) * d_key + kv_heads * d_value;
    for (int64_t b = begin; b < end; ++b)
      for (int64_t t = 0; t < step.length; ++t, joint += width)
        for (int64_t h = 0; h < kv_heads; ++h) {
          const float* from = joint + (heads + h) * d_key;
          std::copy(from, from + d_key, const_cast<float*>(keys.of(b, h)) + (step.start + t) * keys.by_row);
          from = joint + (heads + kv_heads) * d_key + h * d_value;
          std::copy(from, from + d_value, const_cast<float*>(values.of(b, h)) + (step.start + t) * values.by_row);
        }
  }

  // The activation of [rows, d_ff], or of the first half of [rows, 2 · d_ff] times the second, in its place.
  const float* activate(std::vector<float>& wide, int64_t rows) const {
    const int64_t width = static_cast<int64_t>(wide.size()) / rows, inner = gated ? width / 2 : width;
    if (activation == "relu" && !gated) {
      for (float& one : wide) one = one < 0.0f ? 0.0f : one;  // NaN stays
      return wide.data();
    }
    const at::Tensor all = at::from_blob(wide.data(), {rows, width}, at::kFloat);
    at::Tensor gate = gated ? all.narrow(1, 0, inner) : all;
    if (activation == "relu") gate.copy_(at::relu(gate));
    if (activation == "gelu") gate.copy_(at::gelu(gate));
    if (activation == "gelu_tanh") gate.copy_(at::gelu(gate, "tanh"));
    if (activation == "silu") gate.copy_(at::silu(gate));
    if (!gated) return wide.data();
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < inner; ++i) wide[r * inner + i] = wide[r * width + i] * wide[r * width + inner + i];
    return wide.data();
  }
};

inline void define_stack(torch::Library& library) {
  library.class_<Stack>("Stack")
      .def(torch::init<std::vector<int64_t>, double, double, bool, bool, bool, std::string>())
      .def("add", [](const c10::intrusive_ptr<Stack>& self, std::vector<Maybe> tensors) { self->add(tensors); })
      .def("end", [](const c10::intrusive_ptr<Stack>& self, at::Tensor weight, Maybe bias) { self->end(weight, bias); })
      .def("step", [](const c10::intrusive_ptr<Stack>& self, at::Tensor states, Tensors keys, Tensors values,
                      int64_t start, Maybe allowed, Tensors memory_keys, Tensors memory_values, Maybe memory_allowed,
                      Maybe cosines, Maybe sines) {
        return self->step(states, keys, values, start, allowed, memory_keys, memory_values, memory_allowed, cosines, sines);
      });
}

}  // namespace regard
