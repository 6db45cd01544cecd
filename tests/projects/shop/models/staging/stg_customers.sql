-- depends_on: {{ ref('raw_customers') }}
select
    id as customer_id,
    name,
    coalesce(country, 'unknown') as country,
    {{ dbt.hash(dbt.concat(['id::text', "'-'", 'name'])) }} as customer_key,
    updated_at
from {{ source('raw', 'customers') }}
