-- The material table counts the bodies of the fact table.
select bodies.units, materials.units as counted_units
from (select count(*) as units from {{ ref('fct_production') }} where component_type = 'bodies') as bodies
cross join (select coalesce(sum(total_units), 0) as units from {{ ref('agg_material_performance') }}) as materials
where bodies.units <> materials.units
