select id, count(*) as versions, count(*) filter (where dbt_valid_to is null) as open
from {{ ref('items_by_time') }} group by id
