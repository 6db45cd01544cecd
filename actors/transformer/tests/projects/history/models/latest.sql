{{ config(
    materialized='incremental',
    incremental_strategy='merge',
    unique_key='id',
    merge_exclude_columns=['first_price'],
    on_schema_change='sync_all_columns'
) }}
select id, name, price, price as first_price from {{ ref('items') }}
