"""All ranks of one tree have one secret, and no other tree has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sglang.srt.tenancy.cache.adapters.hiradix.shared_secret import shared_secret

# Four ranks, two trees: as with data parallelism, ranks of one tree are a group.
RANK = """
import sys
import torch.distributed as dist
from sglang.srt.tenancy.cache.adapters.hiradix.shared_secret import shared_secret

rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=4)
groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
print(shared_secret(groups[rank // 2]).hex())
"""


def test_ranks_of_one_tree_share_what_others_do_not_have(tmp_path: Path) -> None:
    meeting = str(tmp_path / "meeting")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, meeting, str(rank)], stdout=subprocess.PIPE, text=True
        )
        for rank in range(4)
    ]
    secrets = [rank.communicate(timeout=120)[0].split()[-1] for rank in ranks]
    assert secrets[0] == secrets[1]
    assert secrets[2] == secrets[3]
    assert secrets[0] != secrets[2]
    assert all(len(bytes.fromhex(secret)) == 32 for secret in secrets)


def test_each_start_has_another() -> None:
    assert shared_secret(None) != shared_secret(None)
