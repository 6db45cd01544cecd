{{ config(contract={'enforced': true}) }}
-- it's a comment with an apostrophe
select name, ({{ kiosk_tools.taxed('price') }})::numeric as price, day from {{ ref('Prices') if false else ref('prices') }}
