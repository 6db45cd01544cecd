-- depends_on: {{ ref('raw_orders') }}
with source as (
    select * from {{ source('raw', 'orders') }}
)

select
    id as order_id,
    customer_id,
    {{ shop_tools.money('amount') }} as amount,
    status,
    ordered_at,
    {{ dbt.date_trunc('day', 'ordered_at') }} as ordered_on
from source
{%- if var('only_status', none) is not none %}
where status = '{{ var("only_status") }}'
{%- endif %}
