"""Models and their versions."""

from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.output import Format, FormatOption, print_document, print_list

app = typer.Typer(no_args_is_help=True, help="List and register the project's models and their versions.")

Name = Annotated[str, typer.Argument(help="The model's name.")]


@app.command("list")
def list_(output: FormatOption = Format.TABLE) -> None:
    """All models of the project."""
    with context.client() as client:
        print_list(client.items("models"), ("name", "versions", "created_at"), output, empty="no models")


@app.command()
def versions(name: Name, output: FormatOption = Format.TABLE) -> None:
    """A model's versions and what each of them takes."""
    columns = ("version", "precision", "max_context_tokens", "gpus_per_replica", "modalities", "digest")
    with context.client() as client:
        found = client.items(f"models/{name}/versions")
        print_list(found, columns, output, empty=f"{name} has no versions")


@app.command()
def create(name: Name) -> None:
    """Register a model; what can be deployed is a version of it."""
    with context.client() as client:
        print_document(client.request("POST", "models", body={"name": name})[0], Format.YAML)


@app.command()
def add(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version's name; versions never change.")],
    *,
    digest: Annotated[
        str, typer.Option(help="sha256:<hex> over the lines '<sha256>  <file>' of all files, by name.")
    ],
    source_uri: Annotated[str, typer.Option(help="file://, s3://, gs://, az:// or hf://")],
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16, fp8, int8 or int4.")],
    size_bytes: Annotated[int, typer.Option(min=1, help="Of all weights.")],
    max_context_tokens: Annotated[int, typer.Option(min=1, help="Prompt and answer together.")],
    gpus_per_replica: Annotated[int, typer.Option(min=1)] = 1,
    takes: Annotated[
        list[str] | None,
        typer.Option(help="text, image, audio or video; may be repeated. Without it: text."),
    ] = None,
) -> None:
    """Register a version of a model."""
    body = {
        "version": version,
        "digest": digest,
        "source_uri": source_uri,
        "precision": precision,
        "size_bytes": size_bytes,
        "max_context_tokens": max_context_tokens,
        "gpus_per_replica": gpus_per_replica,
        "modalities": takes or ["text"],
    }
    with context.client() as client:
        print_document(client.request("POST", f"models/{name}/versions", body=body)[0], Format.YAML)


@app.command()
def adapters(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version that they belong to.")],
    output: FormatOption = Format.TABLE,
) -> None:
    """A version's LoRA adapters; clients ask for `deployment:adapter`."""
    with context.client() as client:
        found = client.items(f"models/{name}/versions/{version}/adapters")
        empty = f"{name} {version} has no adapters"
        print_list(found, ("name", "rank", "source_uri", "digest"), output, empty=empty)


@app.command()
def adapt(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version that it was trained for.")],
    adapter: Annotated[str, typer.Argument(help="The adapter's name, as clients will say it.")],
    *,
    digest: Annotated[
        str, typer.Option(help="sha256:<hex> over the lines '<sha256>  <file>' of all files, by name.")
    ],
    source_uri: Annotated[str, typer.Option(help="file://, s3://, gs://, az:// or hf://")],
    rank: Annotated[int, typer.Option(min=1, max=512, help="Of its matrices.")],
) -> None:
    """Register a LoRA adapter of a model's version."""
    body = {"name": adapter, "digest": digest, "source_uri": source_uri, "rank": rank}
    path = f"models/{name}/versions/{version}/adapters"
    with context.client() as client:
        print_document(client.request("POST", path, body=body)[0], Format.YAML)
