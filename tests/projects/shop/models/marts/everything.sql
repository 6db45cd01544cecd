{{ config(materialized='table', alias='all_of_it', tags=['wide']) }}
{{ shop_tools.union_of([ref('stg_orders'), ref('stg_orders')]) }}
