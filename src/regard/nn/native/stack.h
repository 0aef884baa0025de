// A whole stack's step of decoding in one call, as `regard.nn.stack.Stack` makes it with a cache; and what Python knows of
// the stack.
//
// Shapes: states float32 [B, T, d_model], T tokens of each sentence in this step; keys [B, Hkv, slots, d_key] and
// values [B, Hkv, slots, d_value] of each layer, all of float32 or all of bfloat16; allowed and bias as in attend.h.

#pragma once

#include <ATen/Parallel.h>
#include <torch/custom_class.h>

#include <string>
#include <vector>

#include "attend.h"
#include "layers.h"
#include "texts.h"

namespace regard {

using Tensors = std::vector<at::Tensor>;

// What stands before and behind the layers: ids become states, and those logits.
struct Ends {
  at::Tensor embedding;  // [V, d_model]
  float scale;
  Maybe places;  // [positions, d_model], added to the states
  int64_t offset;
  Map head;
  float factor;  // of the states that the head reads
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

struct Stack : torch::CustomClassHolder, Layers {
  std::optional<Ends> around;

  using Layers::Layers;

  // The head as four tensors, like a map of `add`.
  void surround(const at::Tensor& embedding, double scale, const Maybe& places, int64_t offset,
                const std::vector<Maybe>& head, double factor) {
    around = Ends{embedding, static_cast<float>(scale), places, offset, Map{*head[0], head[1], head[2], head[3]},
                  static_cast<float>(factor)};
  }

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
        if (one.dim() != 4 || !one.is_cpu() || one.scalar_type() != held.keys[0].scalar_type() || one.size(0) != batch ||
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
    FOR_TYPE(held.keys[0], [&] {
      at::parallel_for(0, sentences, grain, [&](int64_t begin, int64_t end) { run<scalar_t>(step, begin, end); });
    });
  }

  template <class T>  // of the cache and the memory
  void run(const Step& step, int64_t begin, int64_t end) const {
    const int64_t rows = (end - begin) * step.length;
    float* x = step.states + begin * step.length * d_model;
    const Rooms rooms(*this, rows);
    float *wide = rooms.wide.get(), *mixed = rooms.mixed.get();
    const Held& held = step.held;
    for (size_t l = 0; l < layers.size(); ++l) {
      const Layer& layer = layers[l];
      const int64_t filled = held.start + step.length;
      const Heads<T> keys(held.keys[l], filled), values(held.values[l], filled);
      project(layer, x, rows, rooms);
      if (held.cosines.has_value()) turn(step, rows, layer.qkv.outputs(), wide);
      keep(step, begin, end, wide, keys, values);
      attend_all({wide, layer.qkv.outputs(), heads, step.length}, keys, values, kv_heads, step.seen, step.bias, scale,
                 begin, end, mixed);
      merge(layer.output, layer.self_norm, x, rows, rooms);
      if (!held.memory_keys.empty()) {
        layer.query(before(layer.cross_norm, x, rows, rooms), rows, d_model, wide);
        attend_all({wide, layer.query.outputs(), heads, step.length}, Heads<T>(held.memory_keys[l]),
                   Heads<T>(held.memory_values[l]), kv_heads, step.memory_seen, Bias(), scale, begin, end, mixed);
        merge(layer.cross_output, layer.cross_norm, x, rows, rooms);
      }
      feed(layer, x, rows, rooms);
    }
    if (last) (*last)(x, rows, d_model, x);
  }

  // Rotary positions of each sentence's tokens, the same for all sentences.
  void turn(const Step& step, int64_t rows, int64_t width, float* joint) const {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t place = r % step.length * (d_key / 2);
      rotate(joint + r * width, step.held.cosines->data_ptr<float>() + place, step.held.sines->data_ptr<float>() + place);
    }
  }

  // New keys and values into the cache.
  template <class T>
  void keep(const Step& step, int64_t begin, int64_t end, const float* joint, const Heads<T>& keys,
            const Heads<T>& values) const {
    const int64_t width = (heads + kv_heads) * d_key + kv_heads * d_value;
    for (int64_t b = begin; b < end; ++b)
      for (int64_t t = 0; t < step.length; ++t, joint += width)
        for (int64_t h = 0; h < kv_heads; ++h) {
          const int64_t slot = step.held.start + t;
          copy(joint + (heads + h) * d_key, d_key, keys.of(b, h) + slot * keys.by_row);
          copy(joint + (heads + kv_heads) * d_key + h * d_value, d_value, values.of(b, h) + slot * values.by_row);
        }
  }

  template <class T>
  static void copy(const float* from, int64_t count, T* to) {
    for (int64_t i = 0; i < count; i += LANES) store(to + i, lanes(count - i), load(from + i, lanes(count - i)));
  }
};

inline void define_stack(torch::Library& library) {
  using Self = c10::intrusive_ptr<Stack>;
  library.class_<Stack>("Stack")
      .def(torch::init<std::vector<int64_t>, double, double, bool, bool, bool, std::string>())
      .def("add", [](const Self& self, std::vector<Maybe> tensors) { self->add(tensors); })
      .def("end", [](const Self& self, at::Tensor weight, Maybe bias) { self->end(weight, bias); })
      .def("read", [](const Self& self, at::Tensor states, Maybe real, bool causal, Maybe cosines, Maybe sines) {
        return read(*self, states, real, causal, cosines, sines);
      })
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
