"""PromQL that boards are made of.

Rates are over Grafana's `$__rate_interval`; counters that may have no sample yet show zero, so that an empty panel
means that nothing is scraped.
"""

from __future__ import annotations

from dashboards.grafana.panels import INTERVAL, Query

PRICE, TEACHERS = "spiritsafe_price_dollars_per_token", "spiritsafe_teacher_price_dollars_per_token"
TTFT = "gen_ai_server_time_to_first_token_seconds"
DURATION = "gen_ai_server_request_duration_seconds"
REQUESTS = "spiritsafe_requests_total"
PRICED = "gen_ai_response_model, gen_ai_token_type"


def rate(metric: str, by: str = "", *, zero: bool = False) -> str:
    """Return a counter's rate, summed by labels; `zero`: where there is no sample, nothing has happened."""
    grouped = f"sum by ({by}) " if by else "sum "
    text = f"{grouped}(rate({metric}[{INTERVAL}]))"
    return f"{text} or vector(0)" if zero else text


def quantile(share: float, histogram: str, by: str = "") -> str:
    """Return a quantile of a histogram of seconds."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({grouped}) (rate({histogram}_bucket[{INTERVAL}])))"


def quantiles(histogram: str) -> list[Query]:
    """Return the median and what one in twenty and one in a hundred exceeds."""
    return [Query(quantile(share, histogram), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]


def dollars(price: str, by: str = "") -> str:
    """Return dollars an hour: the tokens of a model times what one costs. `price` is a metric of both's labels."""
    grouped = f"sum by ({by}) " if by else "sum "
    tokens = f"sum by ({PRICED}) (rate(gen_ai_client_token_usage_sum[{INTERVAL}]))"
    return f"3600 * {grouped}({tokens} * on ({PRICED}) max by ({PRICED}) ({price}))"
