-- A unit that passed staging and is not in the fact table has been lost by an incremental run.
select units.unit_key
from {{ ref('int_production') }} as units
left join {{ ref('fct_production') }} as built on built.unit_key = units.unit_key
where built.unit_key is null
