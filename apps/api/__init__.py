"""What every endpoint shares: problems, idempotency, ETags, paging, project scope, audit."""
