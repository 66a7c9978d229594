"""Looking at the fleet."""

from meridian.cli import context
from meridian.cli.output import Format, FormatOption, console, print_document, print_list


def fleet(output: FormatOption = Format.TABLE) -> None:
    """Clusters and their GPU pools: where, how procured, how much, at what price."""
    with context.client() as client:
        clusters = list(client.items("clusters"))
        pools = list(client.items("pools"))
    if output is not Format.TABLE:
        print_document({"clusters": clusters, "pools": pools}, output)
        return
    columns = ("name", "region", "provider", "jurisdiction", "connected", "gateway_url")
    print_list(
        clusters, columns, output, empty="no clusters; an operator makes one in the console or the API"
    )
    console.print()
    columns = ("cluster", "name", "procurement", "instance_type", "capacity_instances", "price_usd_per_h")
    print_list(pools, columns, output, empty="no pools")
