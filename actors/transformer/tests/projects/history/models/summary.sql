{{ config(materialized='materialized_view', indexes=[{'columns': ['kind']}]) }}
select kind, count(*) as items, sum(price) as price from {{ ref('typed') }} group by kind
