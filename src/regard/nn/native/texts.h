// Whole texts through all layers, as an encoder reads them: without a cache, and with no memory.
//
// Shapes: states float32 [B, T, d_model]; real bool [B, T], where there are tokens; cosines and sines of rotary positions
// [B or 1, 1, T, d_key / 2].
//
// Some texts' tokens, as many as a processor's cache has room for, go through all layers before the next ones. Padding
// goes nowhere.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "layers.h"
#include "short.h"

namespace regard {

constexpr int64_t TEXTS_NUMBERS = 1 << 18;  // of the widest states of texts that go together, 1 MiB

struct Texts {
  const Layers& stack;
  std::vector<int64_t> slots;  // of each token, among the B · T
  std::vector<int64_t> begins;  // of each text among the tokens, and the end of the last
  int64_t length;
  Maybe table;  // who may see whom within a text, [1, 1, T, T], or nothing where all may
  Seen seen;
  const float *cosines = nullptr, *sines = nullptr;
  int64_t by_text = 0;  // from one text's cosines to the next one's

  Texts(const Layers& stack_, const at::Tensor& states, const Maybe& real, bool causal, const Maybe& cosines_,
        const Maybe& sines_)
      : stack(stack_), length(states.size(1)),
        table(causal && length > 1 ? Maybe(at::ones({1, 1, length, length}, at::kBool).tril_()) : std::nullopt),
        seen(table, 1, length, length) {
    const bool* there = real.has_value() ? real->data_ptr<bool>() : nullptr;
    for (int64_t slot = 0; slot < states.size(0) * length; ++slot) {
      if (slot % length == 0) begins.push_back(slots.size());
      if (!there || there[slot]) slots.push_back(slot);
    }
    begins.push_back(slots.size());
    if (!cosines_.has_value()) return;
    cosines = cosines_->data_ptr<float>(), sines = sines_->data_ptr<float>();
    by_text = cosines_->size(0) > 1 ? length * (stack.d_key / 2) : 0;
  }

  int64_t rows() const { return static_cast<int64_t>(slots.size()); }

  // Whole texts in parts of about as many tokens: where each begins, and the end.
  std::vector<int64_t> parted(int64_t parts) const {
    std::vector<int64_t> found{0};
    const int64_t texts = static_cast<int64_t>(begins.size()) - 1;
    for (int64_t i = 1; i < parts; ++i) {
      const auto text = std::lower_bound(begins.begin(), begins.end(), rows() * i / parts) - begins.begin();
      found.push_back(std::min<int64_t>(text, texts));
    }
    found.push_back(texts);
    return found;
  }

  // Whether of so many parts each of the threads has about as many tokens, one thread those beside each other.
  bool even(const std::vector<int64_t>& bounds, int64_t threads) const {
    const int64_t each = static_cast<int64_t>(bounds.size() - 1) / threads;
    for (int64_t i = 0; i < threads; ++i)
      if (4 * threads * (begins[bounds[(i + 1) * each]] - begins[bounds[i * each]]) > 5 * rows()) return false;
    return true;
  }

  // Some texts through all layers; what comes out goes to their slots.
  void run(int64_t first, int64_t behind, const float* states, float* made) const {
    const int64_t begin = begins[first], rows = begins[behind] - begin, d_model = stack.d_model;
    if (rows == 0) return;
    const std::unique_ptr<float[]> kept(new float[rows * d_model]);
    const std::unique_ptr<float[]> levels(new float[2 * stack.heads * length]);
    const Layers::Rooms rooms(stack, rows);
    float* x = kept.get();
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(x + r * d_model, states + slots[begin + r] * d_model, d_model * sizeof(float));
    for (const Layer& layer : stack.layers) {
      stack.project(layer, x, rows, rooms);
      if (cosines) turn(begin, rows, layer.qkv.outputs(), rooms.wide.get());
      for (int64_t text = first; text < behind; ++text)
        attend(begins[text] - begin, begins[text + 1] - begins[text], layer.qkv.outputs(), rooms, levels.get());
      stack.merge(layer.output, layer.self_norm, x, rows, rooms);
      stack.feed(layer, x, rows, rooms);
    }
    if (stack.last) (*stack.last)(x, rows, d_model, x);
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(made + slots[begin + r] * d_model, x + r * d_model, d_model * sizeof(float));
  }

 private:
  void turn(int64_t begin, int64_t rows, int64_t width, float* joint) const {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t slot = slots[begin + r], place = slot / length * by_text + slot % length * (stack.d_key / 2);
      stack.rotate(joint + r * width, cosines + place, sines + place);
    }
  }

  // A text's `count` rows from `row` on attend to each other.
  void attend(int64_t row, int64_t count, int64_t width, const Layers::Rooms& rooms, float* levels) const {
    if (count == 0) return;
    using Rows = HeadRows<float>;
    float *query = rooms.wide.get() + row * width, *key = query + stack.heads * stack.d_key;
    float *value = key + stack.kv_heads * stack.d_key, *mixed = rooms.mixed.get() + row * stack.heads * stack.d_value;
    const Short all{seen, Dropped(), stack.scale, 1, stack.heads, stack.kv_heads, count, count};
    attend_short(all, Rows(query, width, stack.heads, count, stack.d_key), Rows(key, width, stack.kv_heads, count, stack.d_key),
                 Rows(value, width, stack.kv_heads, count, stack.d_value),
                 Rows(mixed, stack.heads * stack.d_value, stack.heads, count, stack.d_value), levels);
  }
};

// States after all layers, [B, T, d_model], zeros where there are no tokens; with `causal` a token sees those up to itself.
inline at::Tensor read(const Layers& stack, const at::Tensor& given, const Maybe& real, bool causal, const Maybe& cosines,
                       const Maybe& sines) {
  TORCH_CHECK(given.dim() == 3 && given.is_cpu() && given.scalar_type() == at::kFloat && given.size(2) == stack.d_model,
              "the states do not fit the stack");
  const int64_t batch = given.size(0), length = given.size(1);
  TORCH_CHECK(!real.has_value() || (real->is_contiguous() && real->scalar_type() == at::kBool &&
                                    real->numel() == batch * length), "the mask does not fit the states");
  for (const Maybe& one : {cosines, sines})
    TORCH_CHECK(!one.has_value() || (one->is_contiguous() && one->scalar_type() == at::kFloat && one->dim() == 4 &&
                                     (one->size(0) == 1 || one->size(0) == batch) &&
                                     one->numel() == one->size(0) * length * (stack.d_key / 2)),
                "the positions do not fit the states");
  const at::Tensor states = given.contiguous();
  at::Tensor made = real.has_value() ? at::zeros_like(states) : at::empty_like(states);
  const Texts texts(stack, states, real, causal, cosines, sines);
  const int64_t rows = texts.rows(), threads = at::get_num_threads();
  if (rows == 0) return made;
  const int64_t most = std::max(TILE, TEXTS_NUMBERS / stack.widest);
  const auto times = [&](int64_t ways) { return (rows + most * ways - 1) / (most * ways) * ways; };
  // As in a step of decoding: rows enough for every thread, and each goes its own way through all layers, if they share
  // the texts about evenly; else all work on the same part.
  std::vector<int64_t> bounds = texts.parted(times(threads));
  const bool apart = rows >= stack.rows_apart() * threads && texts.even(bounds, threads);
  if (!apart) bounds = texts.parted(times(1));
  const int64_t parts = static_cast<int64_t>(bounds.size()) - 1;
  at::parallel_for(0, parts, apart ? 1 : parts, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      texts.run(bounds[i], bounds[i + 1], states.data_ptr<float>(), made.data_ptr<float>());
  });
  return made;
}

}  // namespace regard
