"""Models, versions, engine images and profiles over REST."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.catalog.models import Modality
from apps.catalog.selectors import engine_image_resolve, model_version_resolve
from tests.apps.conftest import Tenant, bearer, pointers
from workloadplane.protocol.modalities import MODALITIES

pytestmark = pytest.mark.django_db

VERSION: dict[str, Any] = {
    "version": "1",
    "digest": "sha256:" + "0" * 64,
    "source_uri": "s3://weights/llama",
    "precision": "bf16",
    "size_bytes": 2_000_000,
    "max_context_tokens": 512,
}
IMAGE: dict[str, Any] = {"engine": "vllm", "version": "0.32.0", "digest": "sha256:" + "1" * 64}


@pytest.fixture
def versions(acme: Tenant) -> str:
    """The address of the versions of a model."""
    assert acme.client.post("/api/v1/models", {"name": "llama"}, format="json").status_code == 201
    return "/api/v1/models/llama/versions"


@pytest.mark.parametrize("weight_format", ["pickle", "pt", "bin", "gguf", ""])
def test_weights_that_could_run_code_are_refused_with_the_reason(
    acme: Tenant, versions: str, weight_format: str
) -> None:
    """Only safetensors; the answer says why and what to do."""
    response = acme.client.post(versions, {**VERSION, "format": weight_format}, format="json")
    assert (response.status_code, pointers(response)) == (400, {"/format"})
    if weight_format:
        assert "runs whatever code" in response.json()["errors"][0]["remedy"]


@pytest.mark.parametrize(
    "source_uri",
    [
        "https://example.com/llama",
        "s3://user:pass@bucket/llama",
        "s3://bucket/llama?X-Amz-Signature=1",
        "file://host/llama",
        "file:///",
        "file:///models/../etc",
        "hf://",
        "llama",
        "s3://buc ket/x",
        "s3://[/x",
    ],
)
def test_weights_come_from_known_kinds_of_places_without_credentials(
    acme: Tenant, versions: str, source_uri: str
) -> None:
    """No address that somebody else serves, no signed one, nothing relative."""
    response = acme.client.post(versions, {**VERSION, "source_uri": source_uri}, format="json")
    assert (response.status_code, pointers(response)) == (400, {"/source_uri"})


def test_files_of_the_clusters_machines_are_named_by_operators_alone(acme: Tenant, versions: str) -> None:
    """A key that only deploys cannot point at the agents' disks."""
    key = acme.client.post("/api/v1/api-keys", {"name": "d", "scopes": ["deploy"]}, format="json").json()[
        "key"
    ]
    document = {**VERSION, "source_uri": "file:///models/llama"}
    assert bearer(key).post(versions, document, format="json").status_code == 403
    assert acme.client.post(versions, document, format="json").status_code == 201


@pytest.mark.parametrize(
    "digest", ["sha256:" + "A" * 64, "sha256:12", "md5:" + "0" * 32, "sha256:" + "0" * 64 + "\n"]
)
def test_a_digest_has_one_form(acme: Tenant, versions: str, digest: str) -> None:
    """Lower-case SHA-256 and nothing after it."""
    response = acme.client.post(versions, {**VERSION, "digest": digest}, format="json")
    assert (response.status_code, pointers(response)) == (400, {"/digest"})


@pytest.mark.parametrize("size_bytes", [0, 10**15 + 1])
def test_no_weights_are_so_large_that_placement_stops(acme: Tenant, versions: str, size_bytes: int) -> None:
    """What placement refuses in a problem, one deployment's catalog entry must not bring into everybody's."""
    response = acme.client.post(versions, {**VERSION, "size_bytes": size_bytes}, format="json")
    assert (response.status_code, pointers(response)) == (400, {"/size_bytes"})


def test_a_version_is_never_overwritten(acme: Tenant, versions: str) -> None:
    """The same version again is a conflict; the newest one is what a bare name means."""
    assert acme.client.post(versions, VERSION, format="json").status_code == 201
    again = acme.client.post(versions, VERSION, format="json")
    assert (again.status_code, pointers(again)) == (409, {"/version"})
    acme.client.post(versions, {**VERSION, "version": "2"}, format="json")
    newest = model_version_resolve(project_id=acme.project.pk, reference="llama")
    pinned = model_version_resolve(project_id=acme.project.pk, reference="llama@1")
    assert (newest.version, pinned.version) == ("2", "1")
    assert acme.client.get("/api/v1/models/llama").json()["versions"] == ["2", "1"]


def test_a_version_says_what_it_takes(acme: Tenant, versions: str) -> None:
    """Text unless it says otherwise; what no gateway knows, twice the same, or nothing at all is refused."""
    told = acme.client.post(versions, VERSION, format="json").json()
    assert told["modalities"] == ["text"] == acme.client.get(f"{versions}/1").json()["modalities"]
    seeing = {**VERSION, "version": "2", "modalities": ["text", "image"]}
    assert acme.client.post(versions, seeing, format="json").json()["modalities"] == ["text", "image"]
    assert list(Modality.values) == list(MODALITIES)
    for wrong in ([], ["text", "text"], ["smell"], "text", None):
        response = acme.client.post(versions, {**VERSION, "version": "3", "modalities": wrong}, format="json")
        assert response.status_code == 400
        assert all(pointer.startswith("/modalities") for pointer in pointers(response))


@pytest.mark.parametrize(
    ("arguments", "pointer"),
    [
        ({"trust_remote_code": "true"}, "/arguments/trust_remote_code"),
        ({"--trust-remote-code": "true"}, "/arguments/--trust-remote-code"),
        ({"max_num_seqs": "0"}, "/arguments/max_num_seqs"),
        ({"max_num_seqs": 8}, "/arguments/max_num_seqs"),
        ({"gpu_memory_utilization": "nan"}, "/arguments/gpu_memory_utilization"),
    ],
)
def test_engine_arguments_are_those_on_the_list(
    admin: APIClient, arguments: dict[str, Any], pointer: str
) -> None:
    """Nothing gets on an engine's command line that its list does not name."""
    response = admin.post("/api/v1/engine-images", {**IMAGE, "arguments": arguments}, format="json")
    assert (response.status_code, pointers(response)) == (400, {pointer})


def test_the_newest_image_of_an_engine_is_taken(acme: Tenant, admin: APIClient) -> None:
    """Tenants read images and never write them."""
    assert acme.client.post("/api/v1/engine-images", IMAGE, format="json").status_code == 403
    for version, digit in (("0.31.0", "1"), ("0.32.0", "2")):
        image = {
            **IMAGE,
            "version": version,
            "digest": f"sha256:{digit * 64}",
            "arguments": {"max_num_seqs": "8"},
        }
        assert admin.post("/api/v1/engine-images", image, format="json").status_code == 201
    assert engine_image_resolve(engine="vllm").version == "0.32.0"
    assert len(acme.client.get("/api/v1/engine-images?engine=vllm").json()["items"]) == 2


@pytest.mark.usefixtures("world")
def test_a_profile_says_what_a_replica_does_on_a_machine(acme: Tenant, versions: str) -> None:
    """Once for each shape; a group of GPUs that does not fit one machine is refused."""
    acme.client.post(versions, VERSION, format="json")
    machine = acme.client.get("/api/v1/instance-types").json()["items"][0]["id"]
    profile = {
        "model": "llama",
        "instance_type": machine,
        "requests_per_s": 4.5,
        "tokens_per_s": 900,
        "concurrency": 8,
        "engine_start_s": 12.5,
    }
    made = acme.client.post("/api/v1/performance-profiles", profile, format="json")
    assert made.status_code == 201, made.content
    assert (made.json()["engine_start_s"], made.json()["image_pull_s"]) == (12.5, None)
    assert acme.client.post("/api/v1/performance-profiles", profile, format="json").status_code == 409
    too_wide = acme.client.post(
        "/api/v1/performance-profiles", {**profile, "tensor_parallel": 2}, format="json"
    )
    assert (too_wide.status_code, pointers(too_wide)) == (400, {"/tensor_parallel"})


def curve_point(concurrency: int, tokens: float, ttft: float) -> dict[str, float]:
    return {
        "concurrency": concurrency,
        "requests_per_s": tokens / 100,
        "tokens_per_s": tokens,
        "ttft_s_p50": ttft / 2,
        "ttft_s_p95": ttft,
        "inter_token_latency_s_p50": 0.02,
        "inter_token_latency_s_p95": 0.03,
    }


CURVE = [curve_point(16, 640, 0.3), curve_point(1, 50, 0.1), curve_point(64, 1200, 1.3)]


@pytest.mark.usefixtures("world")
def test_a_curve_gives_the_rates_at_the_goals(acme: Tenant, versions: str) -> None:
    """What is sized without being kept is what is kept: rates, concurrency, and what to tell the engine."""
    acme.client.post(versions, VERSION, format="json")
    machine = acme.client.get("/api/v1/instance-types").json()["items"][0]["id"]
    measured = {"curve": CURVE, "slo": {"ttft_s_p95": 0.8}, "input_tokens_mean": 300}
    sized = acme.client.post("/api/v1/performance-profiles/sizing", measured, format="json")
    assert sized.status_code == 200, sized.content
    assert (sized.json()["concurrency"], sized.json()["limited_by"]) == (40, "ttft")
    made = acme.client.post(
        "/api/v1/performance-profiles",
        {"model": "llama", "instance_type": machine, **measured},
        format="json",
    )
    assert made.status_code == 201, made.content
    document = made.json()
    assert document["sizing"] == sized.json()
    assert (document["concurrency"], document["tokens_per_s"]) == (40, sized.json()["tokens_per_s"])
    assert [point["concurrency"] for point in document["curve"]] == [1, 16, 64]
    assert document["slo"] == {"ttft_s_p95": 0.8, "inter_token_latency_s_p95": None}


@pytest.mark.usefixtures("world")
def test_curves_that_cannot_be_are_refused(acme: Tenant, versions: str) -> None:
    """At the field; a goal that nothing keeps with what was measured; and neither rates nor a curve."""
    acme.client.post(versions, VERSION, format="json")
    machine = acme.client.get("/api/v1/instance-types").json()["items"][0]["id"]
    path, good = "/api/v1/performance-profiles/sizing", {"curve": CURVE, "input_tokens_mean": 300}
    for wrong, pointer in (
        ({"curve": []}, "/curve"),
        ({"curve": [CURVE[0], CURVE[0]]}, "/curve"),
        ({"curve": [{**CURVE[0], "tokens_per_s": -1}]}, "/curve/0/tokens_per_s"),
        ({"input_tokens_mean": 0}, "/input_tokens_mean"),
    ):
        answer = acme.client.post(path, {**good, **wrong}, format="json")
        assert (answer.status_code, pointers(answer)) == (400, {pointer})
    unreachable = acme.client.post(path, {**good, "slo": {"ttft_s_p95": 0.01}}, format="json")
    assert unreachable.status_code == 422
    assert "0.1 s at 1 side by side" in unreachable.json()["detail"]
    document = {"model": "llama", "instance_type": machine}
    nothing = acme.client.post("/api/v1/performance-profiles", document, format="json")
    assert (nothing.status_code, pointers(nothing)) == (
        400,
        {"/requests_per_s", "/tokens_per_s", "/concurrency"},
    )


def test_models_of_another_project_do_not_exist(acme: Tenant, rival: Tenant, versions: str) -> None:
    """Neither read, nor extended, nor deleted, nor named in a document."""
    acme.client.post(versions, VERSION, format="json")
    for address in ("/api/v1/models/llama", versions, f"{versions}/1", f"{versions}/1/adapters"):
        assert rival.client.get(address).status_code == 404
    assert rival.client.post(versions, {**VERSION, "version": "9"}, format="json").status_code == 404
    assert rival.client.delete("/api/v1/models/llama").status_code == 404
    assert rival.client.get("/api/v1/models").json()["items"] == []


def test_an_adapter_belongs_to_one_version(acme: Tenant, versions: str) -> None:
    """Created, listed, found; and its version stays while it is there."""
    acme.client.post(versions, VERSION, format="json")
    adapter = {"name": "legal", "digest": "sha256:" + "3" * 64, "source_uri": "s3://w/legal", "rank": 8}
    made = acme.client.post(f"{versions}/1/adapters", adapter, format="json")
    assert made.status_code == 201, made.content
    assert acme.client.get(made["Location"]).json()["rank"] == 8
    assert acme.client.delete(f"{versions}/1").status_code == 409
    assert acme.client.delete(made["Location"]).status_code == 204
    assert acme.client.delete(f"{versions}/1").status_code == 204
