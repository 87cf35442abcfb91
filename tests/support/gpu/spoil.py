"""A plugin that loads a node's first page back in place of each of its pages.

In another order would not do: attention looks at all of them, wherever they lie.
"""

from __future__ import annotations

from typing import Any

from support import watch


def start() -> None:
    """Called by upstream in every process."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    watch.start()
    loading = "sglang.srt.managers.cache_controller.HiCacheController.start_loading"
    HookRegistry.register(loading, _repeat_first_page, HookType.BEFORE)


def _repeat_first_page(controller: Any) -> None:
    for operation in controller.load_queue:
        indices = operation.host_indices
        pages = len(indices) // controller.page_size
        operation.host_indices = indices[: controller.page_size].repeat(pages)
