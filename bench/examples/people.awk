# awk -f people.awk >people.csv: 4,000 people that do not exist; label 1 is likelier with hours and years, less with age.
BEGIN {
    seed = 1
    print "age,hours,years,label"
    for (n = 0; n < 4000; n++) {
        age = 20 + uniform() * 50; hours = 20 + uniform() * 30; years = 6 + uniform() * 12
        score = (hours - 35) / 10 + (years - 12) / 4 - (age - 45) / 15 + 2 * uniform() - 1
        printf "%.0f,%.0f,%.1f,%d\n", age, hours, years, (score > 0)
    }
}
function uniform() { seed = (seed * 16807) % 2147483647; return seed / 2147483647 }   # Park and Miller (1988)
