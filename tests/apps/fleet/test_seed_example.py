"""``manage.py seed_example``."""

import json
import stat
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command
from django.core.management.base import CommandError

from apps.accounts.models import ApiKey, User
from apps.fleet.models import GpuPool, Procurement
from tests.apps.conftest import bearer

pytestmark = pytest.mark.django_db

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny llama"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def seed(output: Path, model: Path) -> dict[str, object]:
    call_command("seed_example", output=output, model_path=model, model_digest=DIGEST)
    return dict(json.loads(output.read_text()))


def test_the_example_world_is_whole_and_its_secrets_work(tmp_path: Path, model: Path) -> None:
    """Three clusters with all kinds of pools, a login that works, a key that works, tokens for three agents."""
    output = tmp_path / "seed.json"
    seeded = seed(output, model)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert len(str(seeded["admin_password"])) >= 20
    assert authenticate(username=seeded["admin_user"], password=seeded["admin_password"]) is not None
    client = bearer(str(seeded["api_key"]))
    clusters = client.get("/api/v1/clusters").json()["items"]
    assert {row["name"]: row["jurisdiction"] for row in clusters} == {
        "eu-west": "eu",
        "us-east": "us",
        "ap-northeast": "jp",
    }
    for cluster in clusters:
        pools = client.get(f"/api/v1/pools?cluster={cluster['name']}").json()["items"]
        assert {pool["procurement"] for pool in pools} == set(Procurement.values)
        assert cluster["failure_domains"][0].startswith("provider/")
    assert client.get("/api/v1/models/tiny-llama").json()["versions"] == ["1"]
    tokens = [facts["enrolment_token"] for facts in seeded["clusters"].values()]  # type: ignore[attr-defined]
    assert len(tokens) == 3
    assert all(tokens)


def test_seeding_again_keeps_everything(tmp_path: Path, model: Path) -> None:
    """A second run adds nothing, changes no password and keeps the key that it gave out."""
    output = tmp_path / "seed.json"
    first = seed(output, model)
    pools = GpuPool.objects.count()
    second = seed(output, model)
    assert (second["admin_password"], second["api_key"]) == (first["admin_password"], first["api_key"])
    assert (GpuPool.objects.count(), User.objects.count(), ApiKey.objects.count()) == (pools, 1, 1)


def test_a_lost_output_file_costs_the_key_and_not_the_password(tmp_path: Path, model: Path) -> None:
    """What is stored only as a hash cannot be shown again: the key is replaced, the password is null."""
    first = seed(tmp_path / "one.json", model)
    second = seed(tmp_path / "two.json", model)
    assert second["admin_password"] is None
    assert bearer(str(first["api_key"])).get("/api/v1/clusters").status_code == 401
    assert bearer(str(second["api_key"])).get("/api/v1/clusters").status_code == 200


def test_a_folder_without_weights_is_refused_and_seeds_nothing(tmp_path: Path) -> None:
    """One transaction: a mistake leaves no half world behind."""
    with pytest.raises(CommandError, match=r"--model-path: .* has no \*\.safetensors"):
        seed(tmp_path / "seed.json", tmp_path)
    assert User.objects.count() == 0
