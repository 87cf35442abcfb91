"""KV pool and slot allocator without Triton."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sglang.srt.mem_cache.allocator.paged import (
    PagedTokenToKVPoolAllocator,
    alloc_extend_naive,
)
from sglang.srt.mem_cache.memory_pool import MLATokenToKVPool
from sglang.srt.utils import get_num_new_pages

if TYPE_CHECKING:
    from sglang.srt.layers.radix_attention import RadixAttention


class CpuMLATokenToKVPool(MLATokenToKVPool):
    """Latent KV pool: one row `[1, kv_lora_rank + qk_rope_head_dim]` per slot."""

    def __init__(self, *args: object, index_head_dim: int | None = None, **kwargs: object) -> None:
        # SGLang hands index_head_dim to every out-of-tree MLA pool; it is for
        # sparse-attention models alone, which have a pool of their own.
        if index_head_dim is not None:
            raise ValueError(
                f"index_head_dim={index_head_dim}: DeepSeek sparse attention has no "
                "PyTorch forward; serve this model on a GPU"
            )
        super().__init__(*args, **kwargs)

    def _write_mla_kv_buffer(
        self,
        dst_buffer: torch.Tensor,
        loc: torch.Tensor,
        cache_k_nope: torch.Tensor,
        cache_k_rope: torch.Tensor,
    ) -> None:
        rows = torch.cat((cache_k_nope, cache_k_rope), dim=-1).to(self.dtype)
        dst_buffer[loc] = rows.view(len(loc), 1, -1).view(self.store_dtype)

    def get_mla_kv_buffer(
        self,
        layer: RadixAttention,
        loc: torch.Tensor,
        dst_dtype: torch.dtype | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return copies of the latent and the rotary part at slots `loc`.

        Shapes: `[len(loc), 1, kv_lora_rank]`, `[len(loc), 1, qk_rope_head_dim]`.
        """
        rows = self.get_key_buffer(layer.layer_id)[loc].to(dst_dtype or self.dtype)
        latent, rotary = rows.split((self.kv_lora_rank, self.qk_rope_head_dim), dim=-1)
        return latent.contiguous(), rotary.contiguous()


class CpuPagedAllocator(PagedTokenToKVPoolAllocator):
    """Page allocator whose arithmetic is PyTorch; any page size, 1 included."""

    free_pages: torch.Tensor

    def alloc_extend(
        self,
        prefix_lens: torch.Tensor,
        prefix_lens_cpu: torch.Tensor,
        seq_lens: torch.Tensor,
        seq_lens_cpu: torch.Tensor,
        last_loc: torch.Tensor,
        extend_num_tokens: int,
        num_new_pages: int | None = None,
    ) -> torch.Tensor | None:
        """Return slots `[extend_num_tokens]`, or None where pages run out."""
        if num_new_pages is None:
            num_new_pages = get_num_new_pages(
                seq_lens=seq_lens_cpu,
                page_size=self.page_size,
                prefix_lens=prefix_lens_cpu,
            )
        if not self._ensure_pages(num_new_pages):
            return None
        slots = torch.empty((extend_num_tokens,), dtype=torch.int64)
        alloc_extend_naive(
            prefix_lens,
            seq_lens,
            last_loc,
            self.free_pages,
            slots,
            self.page_size,
            self.device,
        )
        self.free_pages = self.free_pages[num_new_pages:]
        return slots

    def alloc_decode(
        self,
        seq_lens: torch.Tensor,
        seq_lens_cpu: torch.Tensor,
        last_loc: torch.Tensor,
    ) -> torch.Tensor | None:
        """Return one slot per sequence, `[batch]`, or None where pages run out."""
        needs_page = (seq_lens - 1) % self.page_size == 0
        num_new_pages = int(needs_page.sum())
        if not self._ensure_pages(num_new_pages):
            return None
        slots = last_loc.to(torch.int64) + 1
        slots[needs_page] = self.free_pages[:num_new_pages] * self.page_size
        self.free_pages = self.free_pages[num_new_pages:]
        return slots

    def _ensure_pages(self, count: int) -> bool:
        if self.need_sort and count > len(self.free_pages):
            self.merge_and_sort_free()
        return count <= len(self.free_pages)
