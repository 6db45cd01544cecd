{{ config(materialized='ephemeral') }}
select * from {{ ref('items') }} where price is not null
