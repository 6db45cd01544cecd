-- A good unit like an existing one, with a cursor past all others.
insert into public.springs_production
    (timestamp, line_id, machine_id, batch_id, shift_id, operator_id, quality_status, cycle_time_seconds,
     first_pass_yield, defect_type, rework_required, material_cost_per_unit, labor_cost_per_unit,
     energy_cost_per_unit, temperature_celsius, humidity_percent, oee, availability, performance,
     quality_rate, created_at, updated_at, diameter_mm, tensile_strength_mpa, material, compression_ratio)
select timestamp, line_id, machine_id, batch_id, shift_id, operator_id, quality_status,
     cycle_time_seconds + 0.01, first_pass_yield, defect_type, rework_required, material_cost_per_unit,
     labor_cost_per_unit, energy_cost_per_unit, temperature_celsius, humidity_percent, oee, availability,
     performance, quality_rate, created_at, (select max(updated_at) from public.springs_production)
     + interval '1 second', diameter_mm, tensile_strength_mpa, material, compression_ratio
from public.springs_production
where machine_id = 'MACHINE-S-01' and quality_status = 'ok' order by id desc limit 1
