{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['id', 'kind'],
    on_schema_change='append_new_columns',
    incremental_predicates=["price < 100"]
) }}
select id, kind, price {%- if var('day') | int > 1 %}, name as label{% endif %}
from {{ ref('priced') }}
{% if is_incremental() %}where moved_at >= (select '2026-01-02'::timestamp){% endif %}
