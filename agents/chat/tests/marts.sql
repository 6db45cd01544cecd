create schema marts;

create table marts.fct_production as
select
    c.component || '-' || h as unit_key,
    c.component as component_type,
    'LINE-' || upper(c.component) || '-' || lpad((h % c.lines + 1)::text, 3, '0') as line_id,
    'MACHINE-' || c.letter || '-' || lpad((h % 5 + 1)::text, 2, '0') as machine_id,
    'BATCH-' || c.letter || '-' || lpad((h / 8 + 1)::text, 5, '0') as batch_id,
    case
        when extract(hour from at) between 6 and 13 then 'SHIFT-MORNING'
        when extract(hour from at) between 14 and 21 then 'SHIFT-AFTERNOON'
        else 'SHIFT-NIGHT'
    end as shift_id,
    'OP-' || lpad((h % 30 + 1)::text, 3, '0') as operator_id,
    case when h % c.fails = 0 then 'error' else 'ok' end as quality_status,
    h % c.fails <> 0 as is_passed,
    case when h % c.fails = 0 then c.defects[h / c.fails % array_length(c.defects, 1) + 1] end as defect_type,
    case when c.materials is not null then c.materials[h % 3 + 1] end as material,
    case when c.component = 'refills' then (array['black', 'blue', 'red', 'green', 'purple'])[h % 5 + 1] end as ink_color,
    extract(isodow from at) >= 6 as is_weekend,
    at as "timestamp",
    h % 13 <> 0 as first_pass_yield,
    h % 19 = 0 as rework_required,
    0.70 + (h % 23) / 200.0 as oee,
    0.85 + (h % 11) / 100.0 as availability,
    0.80 + (h % 14) / 100.0 as performance,
    0.91 + (h % 8) / 100.0 as quality_rate,
    c.cycle + h % 17 as cycle_time_seconds,
    c.cycle / 300.0 + (h % 5) / 100.0 + 0.15 as total_cost_per_unit,
    c.cycle / 300.0 as material_cost_per_unit,
    0.12 + (h % 5) / 100.0 as labor_cost_per_unit,
    0.03 as energy_cost_per_unit,
    18 + (h % 24) / 3.0 as temperature_celsius,
    40 + h % 31 as humidity_percent,
    case when c.component = 'refills' then 1.10 + (h % 30) / 100.0 end as ink_viscosity_pas,
    case when c.component = 'refills' then 3.2 + (h % 6) / 10.0 end as write_distance_km,
    case when c.component = 'refills' then 0.65 + (h % 15) / 100.0 end as tip_diameter_mm,
    case when c.component = 'refills' then 0.90 + (h % 10) / 100.0 end as flow_consistency,
    case when c.component = 'bodies' then 77 + h % 16 end as durability_score,
    case when c.component = 'bodies' then 0.90 + (h % 10) / 100.0 end as color_match_rating,
    case when c.component = 'bodies' then 148.5 + (h % 30) / 10.0 end as length_mm,
    case when c.component = 'bodies' then 0.80 + (h % 40) / 100.0 end as wall_thickness_mm,
    case when c.component = 'springs' then 0.95 + (h % 15) / 100.0 end as diameter_mm,
    case when c.component = 'springs' then 980 + h % 50 end as tensile_strength_mpa,
    case when c.component = 'springs' then 0.90 + (h % 10) / 100.0 end as compression_ratio
from (
    values
        ('refills', 'R', 2, 29, 45, null::text[],
         array['ink_leak', 'viscosity_out_of_spec', 'tip_defect', 'flow_inconsistent', 'dimensional_error']),
        ('bodies', 'B', 2, 23, 60, array['plastic', 'bamboo', 'metal'],
         array['crack', 'dimensional', 'surface_defect', 'color_mismatch', 'wall_thickness', 'material_defect']),
        ('springs', 'S', 3, 37, 30, array['chrome_vanadium', 'stainless_steel', 'music_wire'],
         array['dimension_out_of_spec', 'tensile_failure', 'compression_failure', 'material_defect', 'coil_spacing'])
) as c (component, letter, lines, fails, cycle, materials, defects)
cross join generate_series(0, 2160) as h
cross join lateral (select timestamptz '2025-12-31 10:00Z' + h * interval '1 hour' as at) as moment;

create table marts.agg_component_quality_trends as
select
    component_type || at as trend_key,
    component_type,
    at as production_hour,
    count(*) as total_units,
    count(*) filter (where is_passed) as passed_units,
    count(*) filter (where not is_passed) as failed_units,
    100.0 * avg(is_passed::int) as moving_avg_pass_rate
from (select *, date_trunc('hour', "timestamp") as at from marts.fct_production) as units
group by component_type, at;

create table marts.fact_production_quality as
select
    component_type || line_id || day_start as quality_key,
    component_type,
    line_id,
    day_start,
    count(*) as total_units,
    count(*) filter (where is_passed) as passed_units,
    count(*) filter (where not is_passed) as failed_units,
    100.0 * avg(is_passed::int) as avg_quality_score
from (select *, date_trunc('day', "timestamp") as day_start from marts.fct_production) as units
group by component_type, line_id, day_start;

create table marts.agg_material_performance as
select
    material,
    count(*) as total_units,
    count(*) filter (where is_passed) as passed_units,
    count(*) filter (where not is_passed) as failed_units,
    avg(durability_score) as avg_durability,
    avg(color_match_rating) as avg_color_match,
    avg(length_mm) as avg_length,
    avg(wall_thickness_mm) as avg_thickness,
    count(*) filter (where durability_score >= 85) as high_durability_units,
    count(*) filter (where durability_score >= 70 and durability_score < 85) as medium_durability_units,
    count(*) filter (where durability_score < 70) as low_durability_units
from marts.fct_production
where component_type = 'bodies'
group by material;
