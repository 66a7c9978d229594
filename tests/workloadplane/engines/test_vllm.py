from dataclasses import replace
from pathlib import Path

import pytest

from workloadplane.engines import engine_named
from workloadplane.engines.base import EngineAdapter, EngineCommand, EnginePlace, EngineReplica
from workloadplane.engines.vllm import ENGINE
from workloadplane.protocol.engine_arguments import sequences_max
from workloadplane.protocol.refusal import Refusal

SAMPLE = (Path(__file__).parent / "samples" / "vllm-0.32.0-cpu-start.log").read_text()
REPLICA = EngineReplica(
    served_model="chat",
    source_uri="file:///models/tiny%20llama",
    precision="bfloat16",
    max_context_tokens=512,
    engine_version="0.32.0",
    arguments={"max_num_seqs": "8", "enforce_eager": "true", "enable_prefix_caching": "false"},
    engine_key="very-secret-key",
    shutdown_timeout_s=30.0,
)
PLACE = EnginePlace(host="127.0.0.1", port=20001, interpreter="/engines/vllm/bin/python", cache_dir="/cache")


def command(**changes: object) -> EngineCommand:
    made = ENGINE.command(replace(REPLICA, **changes), PLACE)  # type: ignore[arg-type]
    assert isinstance(made, EngineCommand), made
    return made


def refusal(**changes: object) -> Refusal:
    made = ENGINE.command(replace(REPLICA, **changes), PLACE)  # type: ignore[arg-type]
    assert isinstance(made, Refusal)
    return made


def test_it_is_started_as_a_module_with_what_the_replica_serves() -> None:
    """Model path, name, place, precision, context, patience on SIGTERM and the image's arguments."""
    argv = command().argv
    assert argv[:3] == ("/engines/vllm/bin/python", "-m", "vllm.entrypoints.openai.api_server")
    assert {
        "--model=/models/tiny llama",
        "--served-model-name=chat",
        "--host=127.0.0.1",
        "--port=20001",
        "--dtype=bfloat16",
        "--max-model-len=512",
        "--shutdown-timeout=30",
        "--max-num-seqs=8",
        "--enforce-eager",
        "--no-enable-prefix-caching",
    } <= set(argv)


def test_adapters_are_declared_at_its_start() -> None:
    """Under the name that clients send, with room for all in memory and the slots that were decided."""
    adapters = tuple(
        EngineAdapter(served_model=f"chat:{name}", source_uri=f"file:///adapters/{name}", rank=rank)
        for name, rank in (("sql", 8), ("law", 12))
    )
    argv = command(adapters=adapters, adapter_slots=1, arguments={"max_loras": "1"}).argv
    begin = argv.index("--enable-lora")
    assert argv[begin:] == (
        "--enable-lora",
        "--max-loras=1",
        "--max-cpu-loras=2",
        "--max-lora-rank=16",
        "--lora-modules",
        '{"name":"chat:sql","path":"/adapters/sql","base_model_name":"chat"}',
        '{"name":"chat:law","path":"/adapters/law","base_model_name":"chat"}',
    )
    assert "--max-loras=1" not in command(arguments={"max_loras": "1"}).argv
    elsewhere = (replace(adapters[0], source_uri="https://adapters.example/sql"),)
    assert refusal(adapters=elsewhere, adapter_slots=1).rule == "model_source"


def test_what_it_computes_side_by_side_is_always_said() -> None:
    """The gateway queues what is beyond it, so both must go by one number: the image's, or the default."""
    assert "--max-num-seqs=256" in command(arguments={}).argv
    assert sequences_max("vllm", {}) == 256
    assert sequences_max("vllm", {"max_num_seqs": "8"}) == 8


def test_its_key_is_a_secret_of_the_environment() -> None:
    """Command lines are readable by every user of a machine, and manifests by many of a cluster."""
    made = command()
    assert made.secrets == {"VLLM_API_KEY": "very-secret-key"}
    assert "very-secret-key" not in " ".join(made.argv) + str(made.environment) + repr(made)


def test_it_fetches_nothing_that_a_client_names() -> None:
    """A picture's URL in a chat request reaches no host: neither by name nor by a redirect."""
    made = command()
    allowed = [
        option.partition("=")[2] for option in made.argv if option.startswith("--allowed-media-domains")
    ]
    assert len(allowed) == 1
    assert allowed[0].endswith(".invalid")
    assert made.environment["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"
    assert not any(option.startswith("--allowed-local-media-path") for option in made.argv)


def test_it_stays_offline_keeps_its_caches_and_shares_the_cores() -> None:
    """No hub, no usage statistics; compile caches under the cluster's folder; no pinning to the same
    cores.
    """
    environment = command(arguments={"cpu_kv_cache_gib": "3"}).environment
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == "1"
    assert environment["VLLM_CACHE_ROOT"] == "/cache/vllm"
    assert environment["TORCHINDUCTOR_CACHE_DIR"].startswith("/cache/vllm/")
    assert environment["VLLM_USE_AOT_COMPILE"] == "0"
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "3"


@pytest.mark.parametrize("precision", ["fp8", "int4"])
def test_quantized_weights_bring_their_own_format(precision: str) -> None:
    """vLLM reads it from their configuration."""
    assert "--dtype=auto" in command(precision=precision).argv


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"trust_remote_code": "true"}, "trust_remote_code"),
        ({"trust-remote-code": "true"}, "trust-remote-code"),
        ({"port": "1"}, "port"),
        ({"max_num_seqs": "0"}, "0"),
        ({"max_num_seqs": "8 --trust-remote-code"}, "8 --trust-remote-code"),
        ({"max_num_seqs": "٣"}, "٣"),
        ({"gpu_memory_utilization": "nan"}, "nan"),
        ({"gpu_memory_utilization": "1.5"}, "1.5"),
        ({"enforce_eager": "yes"}, "yes"),
        ({"kv_cache_dtype": "fp4"}, "fp4"),
    ],
)
def test_arguments_that_are_not_listed_or_make_no_sense_are_refused(
    arguments: dict[str, str], value: str
) -> None:
    """Above all trust_remote_code, in any spelling; and no value can smuggle a further option in."""
    assert refusal(arguments=arguments).value == value
    assert ENGINE.check_arguments(arguments) is not None


@pytest.mark.parametrize(
    "source_uri", ["https://example.com/m", "hf://some/model", "file://host/m", "/models/m", "file:m", ""]
)
def test_weights_must_lie_beside_the_engine(source_uri: str) -> None:
    """An engine never fetches anything by itself."""
    assert refusal(source_uri=source_uri).rule == "model_source"


def test_an_unknown_precision_is_refused() -> None:
    """Rather than served in another one."""
    assert "bf16" in refusal(precision="float64").remedy


def test_the_environment_must_be_there_and_its_version_be_a_version(tmp_path: Path) -> None:
    """The interpreter of exactly that version, never a path that the version smuggles in."""
    python = tmp_path / "vllm-0.32.0" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert ENGINE.interpreter(tmp_path, "0.32.0") == python
    for version, rule in (
        ("0.31.0", "engine_installed"),
        ("0.32.0/../x", "engine_version"),
        ("", "engine_version"),
    ):
        missing = ENGINE.interpreter(tmp_path, version)
        assert isinstance(missing, Refusal)
        assert missing.rule == rule


def test_the_phases_of_a_real_start_sum_to_its_wall_time() -> None:
    """From the log of a start that took 50 s: weights as vLLM measured them, the rest is the engine's."""
    phases = ENGINE.cold_start(SAMPLE, wall_s=50.0)
    assert phases.weight_load_s == 0.07
    assert phases.engine_start_s == pytest.approx(49.93)
    assert phases.gpu_procurement_s is phases.image_pull_s is None


def test_a_phase_that_the_log_does_not_show_is_none() -> None:
    """Nothing is known of the weights: all of it is the engine's start, and no zero is invented."""
    phases = ENGINE.cold_start("a log without those lines", wall_s=10.0)
    assert phases.weight_load_s is None
    assert phases.engine_start_s == 10.0


def test_on_gpus_the_slowest_worker_counts() -> None:
    """Each tensor-parallel worker reports its own loading; they run side by side."""
    log = (
        "(Worker_TP0 pid=7) INFO [default_loader.py:1] Loading weights took 11.20 seconds\n"
        "(Worker_TP0 pid=7) INFO [gpu_model_runner.py:1] Model loading took 15.1 GiB memory and 12.500 seconds\n"
        "(Worker_TP1 pid=8) INFO [gpu_model_runner.py:1] Model loading took 15.1 GiB memory and 14.000 seconds\n"
    )
    assert ENGINE.cold_start(log, wall_s=60.0).weight_load_s == 14.0


def test_the_phase_under_way_is_read_from_the_log_so_far() -> None:
    """Importing, then loading weights, then warming up."""
    seen: list[str] = []
    lines = SAMPLE.splitlines(keepends=True)
    for count in range(len(lines) + 1):
        phase = ENGINE.starting_phase("".join(lines[:count]))
        if not seen or seen[-1] != phase:
            seen.append(phase)
    assert seen == ["engine_start", "weight_load", "engine_start"]


def test_an_engine_that_does_not_exist_is_refused_by_name() -> None:
    """With those that do."""
    missing = engine_named("nonesuch")
    assert isinstance(missing, Refusal)
    assert "simulator, vllm" in missing.remedy
