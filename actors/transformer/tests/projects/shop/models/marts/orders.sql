{{ config(materialized='incremental', unique_key='id', incremental_strategy='merge') }}
select id, country, total, ordered_at, loaded_at
from {{ ref('valid_orders') }}
{% if is_incremental() %}
where loaded_at > (select coalesce(max(loaded_at), '-infinity') from {{ this }})
{% endif %}
