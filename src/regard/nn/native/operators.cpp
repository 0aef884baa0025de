// What Python calls: `torch.ops.regard`.

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "attend.h"
#include "best.h"
#include "loss.h"
#include "maps.h"
#include "normed.h"
#include "short.h"
#include "stack.h"

namespace regard {
namespace {

at::Tensor mapped(const at::Tensor& states, const Map& map, int64_t width) {
  TORCH_CHECK(states.dim() == 2 && states.is_cpu() && states.scalar_type() == at::kFloat && states.size(1) == width,
              "the states do not fit the weight");
  const at::Tensor rows = states.contiguous();
  at::Tensor made = at::empty({rows.size(0), map.outputs()}, rows.options());
  map(rows.data_ptr<float>(), rows.size(0), width, made.data_ptr<float>());
  return made;
}

at::Tensor int8_linear(const at::Tensor& states, const at::Tensor& packed, const at::Tensor& scales,
                       const at::Tensor& sums, const std::optional<at::Tensor>& bias) {
  TORCH_CHECK(packed.size(1) * DEPTH == rounded(states.size(1), CHUNK), "the states do not fit the weight");
  return mapped(states, Map{packed, scales, sums, bias}, states.size(1));
}

at::Tensor linear(const at::Tensor& states, const at::Tensor& weight, const at::Tensor& packed,
                  const std::optional<at::Tensor>& bias) {
  return mapped(states, Map{weight, packed, std::nullopt, bias}, weight.size(1));
}

at::Tensor in_rows(const at::Tensor& heads) { return heads.stride(3) == 1 ? heads : heads.contiguous(); }

// [B, Tq, H, d_value], so that heads merge without a copy.
at::Tensor attention(const at::Tensor& query_, const at::Tensor& key_, const at::Tensor& value_,
                     const std::optional<at::Tensor>& allowed, double scale) {
  for (const at::Tensor& one : {query_, key_, value_})
    TORCH_CHECK(one.dim() == 4 && one.is_cpu() && one.scalar_type() == at::kFloat && one.size(0) == query_.size(0),
                "queries, keys and values do not fit each other");
  const int64_t batch = query_.size(0), heads = query_.size(1), queries = query_.size(2), keys = key_.size(2);
  TORCH_CHECK(heads % key_.size(1) == 0 && value_.size(1) == key_.size(1) && value_.size(2) == keys &&
                  query_.size(3) == key_.size(3), "queries, keys and values do not fit each other");
  const at::Tensor query = query_.transpose(1, 2).contiguous(), key = in_rows(key_), value = in_rows(value_);
  at::Tensor mixed = at::empty({batch, queries, heads, value.size(3)}, query.options());
  attend_all({query.data_ptr<float>(), heads * query.size(3), heads, queries}, Heads<float>(key), Heads<float>(value), key.size(1),
             Seen(allowed, batch, queries, keys), Bias(), static_cast<float>(scale), 0, batch, mixed.data_ptr<float>());
  return mixed;
}

TORCH_LIBRARY(regard, library) {
  library.def("int8_weight(Tensor weight) -> (Tensor, Tensor, Tensor)", &int8_weight);
  library.def("int8_linear(Tensor states, Tensor packed, Tensor scales, Tensor sums, Tensor? bias) -> Tensor",
              &int8_linear);
  library.def("pack(Tensor weight) -> Tensor", &pack);
  library.def("linear(Tensor states, Tensor weight, Tensor packed, Tensor? bias) -> Tensor", &linear);
  library.def("attend(Tensor query, Tensor key, Tensor value, Tensor? allowed, float scale) -> Tensor", &attention);
  library.def("best_logprobs(Tensor(a!) logits, int k, Tensor barred) -> (Tensor, Tensor)", &best_logprobs);
  library.def("slopes(Tensor(a!) logits, Tensor labels, float share) -> (Tensor, Tensor)", &slopes);
  library.def("drop(Tensor states, Tensor? residual, float p, int seed) -> Tensor", &drop);
  library.def("norm(Tensor states, Tensor? residual, Tensor weight, Tensor? bias, bool centered, float eps, float p, "
              "int seed) -> (Tensor, Tensor, Tensor)", &norm);
  library.def("norm_backward(Tensor gradient, Tensor sum, Tensor statistics, Tensor weight, bool centered, float p, "
              "int seed) -> (Tensor, Tensor, Tensor, Tensor)", &unnorm);
  library.def("short_attention(Tensor query, Tensor key, Tensor value, Tensor? allowed, float scale, float p, int seed) "
              "-> (Tensor, Tensor)", &short_attention);
  library.def("short_attention_backward(Tensor gradient, Tensor query, Tensor key, Tensor value, Tensor? allowed, "
              "Tensor levels, float scale, float p, int seed, Tensor(a!) by_query, Tensor(b!) by_key, "
              "Tensor(c!) by_value) -> ()", &short_attention_backward);
  define_stack(library);
}

}  // namespace
}  // namespace regard
