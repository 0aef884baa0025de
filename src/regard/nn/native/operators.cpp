// What Python calls: `torch.ops.regard`.

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "attend.h"
#include "best.h"
#include "maps.h"
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
  const at::Tensor query = in_rows(query_), key = in_rows(key_), value = in_rows(value_);
  const int64_t batch = query.size(0), heads = query.size(1), queries = query.size(2);
  const int64_t keys = key.size(2), width = value.size(3), shared = heads / key.size(1);
  TORCH_CHECK(heads % key.size(1) == 0 && value.size(1) == key.size(1) && value.size(2) == keys &&
                  query.size(3) == key.size(3), "queries, keys and values do not fit each other");
  at::Tensor mixed = at::empty({batch, queries, heads, width}, query.options());
  float* out = mixed.data_ptr<float>();
  const Seen seen(allowed, batch, queries, keys);
  const int64_t work = std::max<int64_t>(1, keys * (query.size(3) + width));
  at::parallel_for(0, batch * queries * heads, std::max<int64_t>(1, SMALL / work), [&](int64_t begin, int64_t end) {
    std::vector<int64_t> places;
    std::vector<float> scores;
    int64_t listed = -1;
    for (int64_t pair = begin; pair < end; ++pair) {
      const int64_t row = pair / heads, h = pair % heads, b = row / queries, i = row % queries;
      if (row != listed) seen.list(b, i, keys, places);
      listed = row;
      const Head mine(query, b, h);
      attend(mine.first + i * mine.stride, Head(key, b, h / shared), Head(value, b, h / shared), places,
             static_cast<float>(scale), scores, out + pair * width);
    }
  });
  return mixed;
}

TORCH_LIBRARY(regard, library) {
  library.def("int8_pack(Tensor codes) -> Tensor", &pack);
  library.def("int8_linear(Tensor states, Tensor packed, Tensor scales, Tensor sums, Tensor? bias) -> Tensor",
              &int8_linear);
  library.def("pack(Tensor weight) -> Tensor", &pack_plain);
  library.def("linear(Tensor states, Tensor weight, Tensor packed, Tensor? bias) -> Tensor", &linear);
  library.def("attend(Tensor query, Tensor key, Tensor value, Tensor? allowed, float scale) -> Tensor", &attention);
  library.def("best_logprobs(Tensor(a!) logits, int k, Tensor barred) -> (Tensor, Tensor)", &best_logprobs);
  define_stack(library);
}

}  // namespace
}  // namespace regard
