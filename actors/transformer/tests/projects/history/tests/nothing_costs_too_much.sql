{{ config(limit=2, warn_if='> 10', error_if='> 10') }}
select * from {{ ref('items') }} where price > 3
