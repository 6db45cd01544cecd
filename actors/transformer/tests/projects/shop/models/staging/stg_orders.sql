with source as (
    select * from {{ source('app', 'orders') }}
)
select id, country, {{ cents_to_euros('cents') }} as total, ordered_at, loaded_at
from source
