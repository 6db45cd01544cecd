-- What the next sync of a day may land: changed rows, rows that move to another day, hour, line or material, and
-- units that were made long before the newest one. Each source is stamped on its own, as its loader does.
update raw.refills_production
set timestamp = timestamp - interval '24 hours',
    updated_at = updated_at + interval '1 hour',
    _airbyte_extracted_at = _airbyte_extracted_at + interval '3 minutes'
where id in (500, 600, 1200);

update raw.refills_production
set line_id = case line_id when 'LINE-REFILLS-001' then 'LINE-REFILLS-002' else 'LINE-REFILLS-001' end,
    updated_at = updated_at + interval '1 hour',
    _airbyte_extracted_at = _airbyte_extracted_at + interval '3 minutes'
where id between 100 and 120;

update raw.bodies_production
set material = case material when 'metal' then 'bamboo' else 'metal' end,
    durability_score = durability_score - 1,
    updated_at = updated_at + interval '1 hour',
    _airbyte_extracted_at = _airbyte_extracted_at + interval '2 minutes'
where id between 40 and 60;

create temporary table late_units as
select * from raw.springs_production where id between 700 and 710;

update late_units
set id = id + 1000000,
    temperature_celsius = temperature_celsius + 0.1,
    updated_at = updated_at + interval '1 hour',
    _airbyte_extracted_at = _airbyte_extracted_at + interval '1 minute';

insert into raw.springs_production select * from late_units;
