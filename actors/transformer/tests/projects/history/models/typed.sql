{{ config(materialized='table', contract={'enforced': true}) }}
select id, kind::text as kind, coalesce(price, 0) as price from {{ ref('items') }}
