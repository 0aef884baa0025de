// A whole stack's step of decoding in one call: what `regard.nn.stack.Stack` does with a cache.
//
// Shapes: states float32 [B, T, d_model], T tokens of each sentence in this step; keys [B, Hkv, slots, d_key] and
// values [B, Hkv, slots, d_value] of each layer; allowed and bias as in attend.h.

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

constexpr int64_t PLAIN_APART = 24;     // rows of each thread; measured with two
constexpr int64_t SMALL_BYTES = 4 << 20;  // of weights that two threads may read side by side, measured too

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

// What stands before and behind the layers: ids become states, and those logits.
struct Ends {
  at::Tensor embedding;  // [V, d_model]
  float scale;
  Maybe places;  // [positions, d_model], added to the states
  int64_t offset;
  Map head;
  float factor;  // of the states that the head reads
};

struct Layer {
  Map qkv, output, query, cross_output, expand, contract;
  Norm self_norm, cross_norm, feed_forward_norm;
};

// A cache's buffers, whose slots from `start` on the step fills, a memory's keys and values, who may see what, and what
// positions add to the scores of self-attention.
struct Held {
  Tensors keys, values;
  int64_t start;
  Maybe allowed, bias;
  Tensors memory_keys, memory_values;
  Maybe memory_allowed, cosines, sines;
};

struct Stack : torch::CustomClassHolder {
  int64_t d_model, heads, kv_heads, d_key, d_value;
  float scale, eps;
  bool pre, centered, gated;
  std::string activation;
  std::vector<Layer> layers;
  int64_t bytes = 0;  // of all layers' weights
  std::optional<Norm> last;
  std::optional<Ends> around;

  Stack(std::vector<int64_t> sizes, double scale, double eps, bool pre, bool centered, bool gated, std::string activation)
      : d_model(sizes[0]), heads(sizes[1]), kv_heads(sizes[2]), d_key(sizes[3]), d_value(sizes[4]),
        scale(static_cast<float>(scale)), eps(static_cast<float>(eps)), pre(pre), centered(centered), gated(gated),
        activation(std::move(activation)) {}

  // Four tensors of each map, then two of each norm; those of cross-attention may lack.
  void add(const std::vector<Maybe>& t) {
    TORCH_CHECK(t.size() == 30, "a layer has 30 tensors, not ", t.size());
    const auto map = [&](int64_t i) {
      return t[4 * i] ? Map{*t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]} : Map{};
    };
    for (int64_t i = 0; i < 6; ++i) bytes += t[4 * i] ? t[4 * i]->nbytes() : 0;
    const auto norm = [&](int64_t i) { return Norm{t[24 + 2 * i], t[25 + 2 * i], eps, centered}; };
    layers.push_back({map(0), map(1), map(2), map(3), map(4), map(5), norm(0), norm(1), norm(2)});
  }

  // The head as four tensors, like a map of `add`.
  void surround(const at::Tensor& embedding, double scale, const Maybe& places, int64_t offset,
                const std::vector<Maybe>& head, double factor) {
    around = Ends{embedding, static_cast<float>(scale), places, offset, Map{*head[0], head[1], head[2], head[3]},
                  static_cast<float>(factor)};
  }

  void end(const at::Tensor& weight, const Maybe& bias) { last = Norm{weight, bias, eps, centered}; }

  // States after all layers, [B, T, d_model].
  at::Tensor step(const at::Tensor& states, const Held& held) const {
    TORCH_CHECK(states.dim() == 3 && states.is_cpu() && states.scalar_type() == at::kFloat &&
                    states.size(2) == d_model, "the states do not fit the stack");
    at::Tensor made = states.clone(at::MemoryFormat::Contiguous);
    pass(made, held);
    return made;
  }

  // Logits [B · T, V] after one token of each of T hypotheses, ids [B, T] at the position `place`.
  at::Tensor logits(const at::Tensor& ids, int64_t place, const Held& held) const {
    TORCH_CHECK(around && ids.dim() == 2 && ids.is_cpu() && ids.scalar_type() == at::kLong,
                "the tokens do not fit the stack");
    at::Tensor states = at::empty({ids.size(0), ids.size(1), d_model}, around->embedding.options());
    embed(ids.contiguous(), place, states.data_ptr<float>());
    pass(states, held);
    if (around->factor != 1.0f) states.mul_(around->factor);
    at::Tensor made = at::empty({ids.numel(), around->head.outputs()}, states.options());
    around->head(states.data_ptr<float>(), ids.numel(), d_model, made.data_ptr<float>());
    return made;
  }

 private:
  struct Step {
    const Held& held;
    Seen seen, memory_seen;
    Bias bias;
    int64_t length;
    float* states;
  };

  void embed(const at::Tensor& ids, int64_t place, float* states) const {
    const int64_t count = around->embedding.size(0);
    const float *table = around->embedding.data_ptr<float>(), *added = nullptr;
    if (around->places.has_value()) {
      TORCH_CHECK(place + around->offset < around->places->size(0), "a position behind the last");
      added = around->places->data_ptr<float>() + (place + around->offset) * d_model;
    }
    const int64_t* id = ids.data_ptr<int64_t>();
    for (int64_t r = 0; r < ids.numel(); ++r, states += d_model) {
      TORCH_CHECK_INDEX(id[r] >= 0 && id[r] < count, "token ", id[r], " of a vocabulary of ", count);
      const float* row = table + id[r] * d_model;
      for (int64_t i = 0; i < d_model; ++i) states[i] = row[i] * around->scale + (added ? added[i] : 0.0f);
    }
  }

  // Whether all tensors have the sizes that the loops take for granted.
  void check(const Held& held, int64_t batch, int64_t length) const {
    const auto fit = [&](const Tensors& all, int64_t width, int64_t slots, bool more) {
      if (all.size() != layers.size()) return false;
      for (const at::Tensor& one : all)
        if (one.dim() != 4 || !one.is_cpu() || one.scalar_type() != at::kFloat || one.size(0) != batch ||
            one.size(1) != kv_heads || one.size(3) != width || one.stride(3) != 1 ||
            (more ? one.size(2) < slots : one.size(2) != slots))
          return false;
      return true;
    };
    const int64_t filled = held.start + length, half = d_key / 2;
    TORCH_CHECK(held.start >= 0 && fit(held.keys, d_key, filled, true) && fit(held.values, d_value, filled, true),
                "the cache does not fit the states");
    const int64_t slots = held.memory_keys.empty() ? 0 : held.memory_keys[0].size(2);
    TORCH_CHECK((held.memory_keys.empty() && held.memory_values.empty()) ||
                    (fit(held.memory_keys, d_key, slots, false) && fit(held.memory_values, d_value, slots, false)),
                "the memory does not fit the states");
    for (const Maybe& one : {held.cosines, held.sines})
      TORCH_CHECK(!one.has_value() || (one->is_contiguous() && one->scalar_type() == at::kFloat &&
                                       one->numel() == length * half), "the positions do not fit the states");
  }

  // All layers, over states in one piece.
  void pass(at::Tensor& states, const Held& held) const {
    check(held, states.size(0), states.size(1));
    if (states.numel() == 0) return;
    const int64_t batch = states.size(0), length = states.size(1);
    const int64_t remembered = held.memory_keys.empty() ? 0 : held.memory_keys[0].size(2);
    const int64_t filled = held.start + length;
    const Step step{held, Seen(held.allowed, batch, length, filled), Seen(held.memory_allowed, batch, length, remembered),
                    Bias(held.bias, {batch, heads, length, filled}, "bias"), length, states.data_ptr<float>()};
    const int64_t sentences = batch, threads = at::get_num_threads();
    // Rows enough for every thread: each goes its own way through all layers, and none waits for another.
    const bool apart = sentences >= threads && sentences * step.length >= rows_apart() * threads;
    const int64_t grain = apart ? (sentences + threads - 1) / threads : sentences;
    at::parallel_for(0, sentences, grain, [&](int64_t begin, int64_t end) { run(step, begin, end); });
  }

  // Rows from which a thread reads all weights for itself: fewer would wait for them longer than for each other, but not
  // where they are small.
  int64_t rows_apart() const {
    if (layers[0].qkv.quantized()) return TILE;
    return bytes <= SMALL_BYTES ? 1 : PLAIN_APART;
  }

  void run(const Step& step, int64_t begin, int64_t end) const {
    const int64_t rows = (end - begin) * step.length;
    float* x = step.states + begin * step.length * d_model;
    std::vector<float> normed(rows * d_model), wide, mixed(rows * heads * d_value), added(rows * d_model);
    const Held& held = step.held;
    for (size_t l = 0; l < layers.size(); ++l) {
      const Layer& layer = layers[l];
      const int64_t filled = held.start + step.length;
      const Heads keys(held.keys[l], filled), values(held.values[l], filled);
      wide.resize(rows * layer.qkv.outputs());
      layer.qkv(before(layer.self_norm, x, rows, normed), rows, d_model, wide.data());
      rotate(step, begin, end, wide.data());
      keep(step, begin, end, wide.data(), keys, values);
      attend_all({wide.data(), layer.qkv.outputs(), heads, step.length}, keys, values, kv_heads, step.seen, step.bias,
                 scale, begin, end, mixed.data());
      layer.output(mixed.data(), rows, heads * d_value, added.data());
      after(layer.self_norm, x, added, rows);
      if (!held.memory_keys.empty()) {
        layer.query(before(layer.cross_norm, x, rows, normed), rows, d_model, wide.data());
        attend_all({wide.data(), layer.query.outputs(), heads, step.length}, Heads(held.memory_keys[l]),
                   Heads(held.memory_values[l]), kv_heads, step.memory_seen, Bias(), scale, begin, end, mixed.data());
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
    const Maybe &cosines = step.held.cosines, &sines = step.held.sines;
    if (!cosines.has_value()) return;
    const int64_t half = d_key / 2, width = (heads + kv_heads) * d_key + kv_heads * d_value;
    for (int64_t b = begin; b < end; ++b)
      for (int64_t t = 0; t < step.length; ++t, joint += width) {
        const float* c = cosines->data_ptr<float>() + t * half;
        const float* s = sines->data_ptr<float>() + t * half;
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
          std::copy(from, from + d_key, const_cast<float*>(keys.of(b, h)) + (step.held.start + t) * keys.by_row);
          from = joint + (heads + kv_heads) * d_key + h * d_value;
          std::copy(from, from + d_value, const_cast<float*>(values.of(b, h)) + (step.held.start + t) * values.by_row);
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
  using Self = c10::intrusive_ptr<Stack>;
  library.class_<Stack>("Stack")
      .def(torch::init<std::vector<int64_t>, double, double, bool, bool, bool, std::string>())
      .def("add", [](const Self& self, std::vector<Maybe> tensors) { self->add(tensors); })
      .def("end", [](const Self& self, at::Tensor weight, Maybe bias) { self->end(weight, bias); })
      .def("surround", [](const Self& self, at::Tensor embedding, double scale, Maybe places, int64_t offset,
                          std::vector<Maybe> head, double factor) {
        self->surround(embedding, scale, places, offset, head, factor);
      })
      .def("step", [](const Self& self, at::Tensor states, Tensors keys, Tensors values, int64_t start, Maybe allowed,
                      Maybe bias, Tensors memory_keys, Tensors memory_values, Maybe memory_allowed, Maybe cosines,
                      Maybe sines) {
        return self->step(states, {keys, values, start, allowed, bias, memory_keys, memory_values, memory_allowed, cosines,
                                   sines});
      })
      .def("logits", [](const Self& self, at::Tensor ids, int64_t place, Tensors keys, Tensors values, int64_t start,
                        Maybe allowed, Maybe bias, Tensors memory_keys, Tensors memory_values, Maybe memory_allowed,
                        Maybe cosines, Maybe sines) {
        return self->logits(ids, place, {keys, values, start, allowed, bias, memory_keys, memory_values, memory_allowed,
                                         cosines, sines});
      });
}

}  // namespace regard
