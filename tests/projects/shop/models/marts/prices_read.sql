{{ config(materialized='view') }}
select * from {{ ref('prices', version=3) }}
