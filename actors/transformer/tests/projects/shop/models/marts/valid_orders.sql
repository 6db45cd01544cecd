{{ config(materialized='ephemeral') }}
select * from {{ ref('stg_orders') }} where total >= {{ var('minimum_total') }}
